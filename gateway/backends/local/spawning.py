"""How a process of a cluster is started: as whom, with which environment, and with the marks by
which it is found again."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping

from gateway.backends.contract import SCHEDULER_NAME, Instance, Launch, Role
from gateway.backends.local.directories import Directories
from gateway.wire import ENV_UID, is_instance_name, is_uid

MARK_ROOT, MARK_NAME, MARK_ROLE = "DASKGATEWAY_ROOT", "DASKGATEWAY_NAME", "DASKGATEWAY_ROLE"
# what a process of another user gets of ours
CLEAN_ENVIRONMENT = ("LANG", "LC_ALL", "TZ", "PATH", "PYTHONPATH")


def marks_of(directories: Directories, uid: str = "") -> dict[str, str]:
    """Return the marks of all processes of a gateway, or of one of its clusters."""
    marks = {MARK_ROOT: str(directories.root)}
    return marks | {ENV_UID: uid} if uid else marks


def told(environment: Mapping[str, str]) -> Instance | None:
    """Return the instance that marks tell of, None if there is none of such names: whoever started
    the process may have written them."""
    uid, name = environment.get(ENV_UID, ""), environment.get(MARK_NAME, "")
    if not is_uid(uid) or not is_instance_name(name):
        return None
    role = Role.SCHEDULER if name == SCHEDULER_NAME else Role.WORKER
    return Instance(uid, role, name)


def account_of(user: str, min_uid: int) -> pwd.struct_passwd:
    """Return the system user that a user's clusters run as. KeyError if there is none, ValueError
    if nobody's clusters run as that one; each says why."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise KeyError(f"this machine has no user {user!r}") from None
    if account.pw_uid == 0:
        raise ValueError("clusters never run as root")
    if account.pw_uid < min_uid:
        raise ValueError(
            f"clusters never run as {user!r}: its number {account.pw_uid} is that of a service,"
            f" below c.LocalBackend.min_uid = {min_uid}; sign in as another user, or ask the"
            f" administrator"
        )
    return account


def spawn(
    launch: Launch, account: pwd.struct_passwd | None, directories: Directories
) -> subprocess.Popen[bytes]:
    """Make the directory of an instance and start its process, as `account` or as who we are.
    Blocks; OSError if the system refuses."""
    identity: dict[str, object] = {}
    if account is not None:
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        identity = {
            "user": account.pw_uid,
            "group": account.pw_gid,
            "extra_groups": groups,
            "umask": 0o077,
        }
    with directories.prepared(launch, account) as prepared:
        placed = launch.placed(str(prepared.directory))
        child: subprocess.Popen[bytes] = subprocess.Popen(
            placed.argv,
            env=_environment(placed, account, directories),
            # It is entered before rights are given up, and is the user's already, who may have
            # put a link in its place: so by no name.
            cwd=f"/proc/self/fd/{prepared.scratch}",
            stdin=subprocess.DEVNULL,
            stdout=prepared.log,
            stderr=prepared.log,
            start_new_session=True,
            **identity,  # type: ignore[call-overload]
        )
        return child


def _environment(
    launch: Launch, account: pwd.struct_passwd | None, directories: Directories
) -> dict[str, str]:
    if account is None:
        base = {
            key: value for key, value in os.environ.items() if not key.startswith("DASKGATEWAY_")
        }
    else:
        base = {key: os.environ[key] for key in CLEAN_ENVIRONMENT if key in os.environ}
        base |= {
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell,
        }
    marks = marks_of(directories, launch.instance.uid) | {
        MARK_NAME: launch.instance.name,
        MARK_ROLE: launch.instance.role.value,
        # Dask sets titles where setproctitle is installed, which writes them over the
        # environment otherwise
        "SPT_NOENV": "1",
    }
    # First, where a very large environment cannot hide them.
    return marks | base | dict(launch.env) | marks
