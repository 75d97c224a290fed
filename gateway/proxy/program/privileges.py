"""How a process that was started as root gives its rights up for good: another account, no groups,
at most one capability, no way back.

Done before anything is heard of anybody, while the process has one thread: most of this holds for
the calling thread alone (capabilities(7), prctl(2)), and what another thread keeps would be kept
for all.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import struct

CAP_NET_BIND_SERVICE = 10  # linux/capability.h
MOST_CAPABILITIES = 64

_PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 8, 23, 24, 38
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 for each set


class RightsKept(RuntimeError):
    """The rights could not be given up; the process must not go on."""


def give_up(uid: int, gid: int, *, bind: bool) -> None:
    """Become this account, with no other groups; with `bind`, ports below 1024 may still be bound.
    RightsKept if that is not so then."""
    if min(uid, gid) <= 0:
        raise RightsKept("root is no account of an edge")
    if len(os.listdir("/proc/self/task")) != 1:
        raise RightsKept("the process has more than one thread, which would keep their rights")
    libc = ctypes.CDLL(None, use_errno=True)
    kept = {CAP_NET_BIND_SERVICE} if bind else set()
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)  # no program that is run later brings rights back
    for capability in range(MOST_CAPABILITIES):
        if capability not in kept and libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            _prctl(libc, _PR_CAPBSET_DROP, capability)
    _prctl(libc, _PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _set_capabilities(libc, kept)
    _prctl(libc, _PR_SET_KEEPCAPS, 0)
    os.umask(0o077)
    _check(uid, gid, kept)


def _prctl(libc: ctypes.CDLL, operation: int, value: int) -> None:
    if libc.prctl(operation, value, 0, 0, 0) != 0:
        raise RightsKept(f"prctl {operation} failed: {os.strerror(ctypes.get_errno())}")


def _set_capabilities(libc: ctypes.CDLL, kept: set[int]) -> None:
    """Permit and make effective these alone; nothing is inherited by programs."""
    mask = sum(1 << capability for capability in kept)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    if libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)) != 0:
        raise RightsKept(f"capset failed: {os.strerror(ctypes.get_errno())}")


def _check(uid: int, gid: int, kept: set[int]) -> None:
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or os.getgroups():
        raise RightsKept("the account was not changed")
    told = dict(
        line.split(":\t", 1)
        for line in pathlib.Path("/proc/self/status").read_text().splitlines()
        if ":\t" in line
    )
    wanted = sum(1 << capability for capability in kept)
    if (
        any(int(told[name], 16) != wanted for name in ("CapPrm", "CapEff", "CapBnd"))
        or int(told["CapInh"], 16)
        or int(told["CapAmb"], 16)
    ):
        raise RightsKept("capabilities were not given up")
    if told["NoNewPrivs"].strip() != "1":
        raise RightsKept("new rights can still be had")
