"""The kinds of options that an administrator may offer for clusters: `from gateway.options import
Select`. A callable of the site's refuses a user by `Refused`."""

from gateway.server.core.options import Bool, Field, Float, Integer, Mapped, Refused, Select, Text

__all__ = ["Bool", "Field", "Float", "Integer", "Mapped", "Refused", "Select", "Text"]
