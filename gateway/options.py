"""The kinds of options that an administrator may offer for clusters: `from gateway.options import
Select`."""

from gateway.server.core.options import Bool, Field, Float, Integer, Mapped, Select, Text

__all__ = ["Bool", "Field", "Float", "Integer", "Mapped", "Select", "Text"]
