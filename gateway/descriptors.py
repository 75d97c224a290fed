"""How many files and sockets a process may have open, and whether that is enough for what it is
configured to do."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass

from gateway.configfile import ConfigurationError

UNLIMITED = 2**20
RAISE = "raise it (`ulimit -Hn`, or LimitNOFILE= of a systemd unit)"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a process needs descriptors for."""

    what: str  # such as `connections`
    setting: str  # such as `c.Proxy.max_connections`
    wished: int  # its value
    each: int  # descriptors that one of them takes
    kept: int  # descriptors for all else
    least: int  # so many of them must be possible, or nobody would call it service

    @property
    def descriptors(self) -> int:
        """How many descriptors the wish takes."""
        return self.kept + self.each * self.wished

    def fitting(self, limit: int) -> tuple[int, str]:
        """Return how many are possible within a limit, and what is to be said about it, which is
        nothing if the wish is met.

        ConfigurationError if that is less than the least.
        """
        most = min(self.wished, (limit - self.kept) // self.each)
        if most < (least := min(self.wished, self.least)):
            needed = self.kept + self.each * least
            raise ConfigurationError(
                f"the limit on open files is {limit}; {self.setting} = {self.wished} takes"
                f" {self.descriptors},"
                f" and with less than {needed} nothing is served: {RAISE}"
            )
        if most == self.wished:
            return most, ""
        takes = f"{self.setting} = {self.wished} takes {self.descriptors}"
        return (
            most,
            f"the limit on open files, {limit}, permits {most} {self.what}; {takes}: {RAISE}",
        )


def raise_descriptor_limit(most: int = UNLIMITED) -> int:
    """Let the process open so many files, as far as the administrator permits (the hard limit);
    return how many it may open."""
    soft, hard = (
        UNLIMITED if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    wished = min(most, hard)
    if soft >= wished:
        return soft
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wished, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
        return wished
    return soft
