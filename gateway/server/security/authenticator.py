"""Where the contract of authenticators was. It is `gateway.authenticators.contract` now; plug-ins
written before go on working."""

from gateway.authenticators.contract import *  # noqa: F403
from gateway.authenticators.contract import __all__ as __all__
