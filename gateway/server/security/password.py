"""Where the password authenticator was. It is `gateway.authenticators.password` now; what names
this place goes on working."""

from gateway.authenticators.password import PasswordAuthenticator

__all__ = ["PasswordAuthenticator"]
