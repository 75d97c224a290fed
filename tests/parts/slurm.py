"""A real Slurm in a private directory: munge, accounting, REST and several virtual nodes on this
machine, on free ports of 127.0.0.1.

Debian's packages, as root, with no systemd and no cgroups. Everything is started in the foreground
and ended by its pid.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.parts import PATH, as_account, missing, program
from tests.ports import free_ports

INSTALL = (
    "apt-get install --no-install-recommends slurm-wlm slurmdbd slurmrestd"
    " slurm-wlm-jwt-plugin slurm-wlm-torque munge mariadb-server sudo"
)
NODES = 4
CPUS = 8  # of each node; more than the machine has
GPUS = 2  # of each node: files that every machine has, which nobody computes on
START_S = 60.0
PROGRAMS = (
    "munged",
    "mariadbd",
    "mariadb",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "slurmrestd",
    "sbatch",
    "sacctmgr",
)


def last_core() -> int:
    """Return the core that a Slurm that is apart has; who measures beside it keeps to the
    others."""
    return max(os.sched_getaffinity(0))


class Slurm:
    """A batch system that is ours alone."""

    def __init__(
        self, *, accounting: bool = True, rest: bool = True, cpus: int = CPUS, apart: bool = False
    ) -> None:
        for name in PROGRAMS:
            program(name, INSTALL)
        if os.geteuid() != 0:
            missing("root", "sudo make test (Slurm's daemons and munge are started as root)")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="slurm-"))
        self.directory.chmod(0o755)
        self.conf = self.directory / "slurm.conf"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._accounting, self._rest, self._cpus = accounting, rest, cpus
        # As if it were on other machines: it has the last core, and does not watch the memory of
        # jobs, for which each would read all of
        # /proc once a second.
        self._apart, self._core = apart, last_core()
        ports = free_ports(4 + NODES)
        self._dbd_port, self._db_port, self._ctld_port, rest_port, *self._node_ports = ports
        self.rest_url = f"http://127.0.0.1:{rest_port}"
        self.environment = {"SLURM_CONF": str(self.conf), "PATH": PATH}
        self._host = socket.gethostname().partition(".")[0]
        self.ctld: subprocess.Popen[bytes] | None = None

    # Start and end

    def start(self) -> None:
        """Start everything; nodes are idle when this returns."""
        for name in ("run", "log", "state", "spool"):
            (self.directory / name).mkdir()
        (self.directory / "jwt.key").write_bytes(os.urandom(32))
        (self.directory / "jwt.key").chmod(0o600)
        self._write_conf()
        self._start_munge()
        if self._accounting:
            self._start_accounting()
        self.start_controller()
        for number, port in enumerate(self._node_ports, 1):
            self._spawn("slurmd", "-D", "-f", str(self.conf), "-N", f"n{number}")
            del port
        self._until(
            lambda: self.command("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(NODES),
            "all nodes are idle",
        )
        if self._rest:
            self._start_rest()

    def stop(self) -> None:
        """End everything that was started, and remove the directory."""
        with contextlib.suppress(Exception):
            self.command("scancel", "--state=PENDING,RUNNING,SUSPENDED", check=False)
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._end_steps()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_steps(self) -> None:
        """End what daemons that were killed have left: every process with this configuration in its
        environment."""
        mark = f"SLURM_CONF={self.conf}".encode()
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        os.kill(int(entry.name), signal.SIGKILL)

    def _spawn(
        self, name: str, *words: str, user: str | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        log = (self.directory / "log" / f"{name}-{len(self._processes)}.out").open("wb")
        account = as_account(pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid) if user else []
        with log:
            process = subprocess.Popen(
                [
                    *(("taskset", "-c", str(self._core)) if self._apart else ()),
                    *account,
                    program(name, INSTALL),
                    *words,
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**self.environment, **environment},
                start_new_session=True,
                cwd="/",
            )
        self._processes.append(process)
        return process

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_S
        while not holds():
            if time.monotonic() > deadline:
                logs = {
                    path.name: path.read_text(errors="replace")[-1500:]
                    for path in (self.directory / "log").iterdir()
                }
                raise AssertionError(f"not within {START_S:g} s: {what}\n{logs}")
            time.sleep(0.1)

    def _start_munge(self) -> None:
        munge = self.directory / "munge"
        munge.mkdir(mode=0o700)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        files = {
            "key-file": "key",
            "socket": "sock",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self._spawn(
            "munged",
            "--foreground",
            "--force",
            "--num-threads=10",
            *(f"--{key}={munge / name}" for key, name in files.items()),
        )
        self._until((munge / "sock").exists, "munge answers")
        munge.chmod(0o711)  # users' commands reach the socket

    def _start_accounting(self) -> None:
        data = self.directory / "db"
        data.mkdir(mode=0o700)
        owner = pwd.getpwnam("mysql")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        install = ["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}/data"]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True, env=self.environment)
        words = [
            f"--datadir={data}/data",
            f"--socket={data}/sock",
            f"--pid-file={data}/pid",
            f"--port={self._db_port}",
        ]
        words += [
            "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        self._spawn("mariadbd", "--no-defaults", "--user=mysql", *words)
        self._until((data / "sock").exists, "the database answers")
        statements = (
            "CREATE DATABASE slurm_acct; CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm'; "
        )
        statements += "GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';"
        subprocess.run(
            ["mariadb", f"--socket={data}/sock", "-uroot", "-e", statements],
            check=True,
            env=self.environment,
        )
        self._spawn("slurmdbd", "-D")
        self._until(
            lambda: self._try("sacctmgr", "-i", "add", "cluster", "t"), "accounting answers"
        )

    def start_controller(self) -> None:
        """Start the controller, or start it again."""
        self.ctld = self._spawn("slurmctld", "-D", "-f", str(self.conf))
        self._until(lambda: self._try("scontrol", "ping"), "the controller answers")

    def stop_controller(self) -> None:
        """End the controller: commands do not get an answer until it is started again."""
        assert self.ctld is not None
        self.ctld.send_signal(signal.SIGTERM)
        self.ctld.wait(30)

    def _start_rest(self) -> None:
        port = self.rest_url.rpartition(":")[2]
        self._spawn(
            "slurmrestd",
            "-a",
            "rest_auth/jwt",
            f"127.0.0.1:{port}",
            user="nobody",
            SLURM_JWT="daemon",
            SLURM_BITSTR_LEN="0",
        )

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(port))) == 0

        self._until(answers, "REST answers")

    def _write_conf(self) -> None:
        here, host, munge = self.directory, self._host, self.directory / "munge"
        lines = [
            "ClusterName=t",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={self._ctld_port}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={munge}/sock",
            "CredType=cred/munge",
            "AuthAltTypes=auth/jwt",
            f"AuthAltParameters=jwt_key={here}/jwt.key",
            f"StateSaveLocation={here}/state",
            f"SlurmdSpoolDir={here}/spool/%n",
            f"SlurmctldPidFile={here}/run/ctld.pid",
            f"SlurmdPidFile={here}/run/d.%n.pid",
            f"SlurmctldLogFile={here}/log/ctld.log",
            f"SlurmdLogFile={here}/log/d.%n.log",
            f"ProctrackType=proctrack/{'pgid' if self._apart else 'linuxproc'}",
            "TaskPlugin=task/none",
            f"JobAcctGatherType=jobacct_gather/{'none' if self._apart else 'linux'}",
            f"JobAcctGatherFrequency=task={int(not self._apart)}",
            *([] if self._apart else ["JobAcctGatherParams=OverMemoryKill"]),
            "SwitchType=switch/none",
            "MpiDefault=none",
            "ReturnToService=2",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU_Memory",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=100000",
            "PriorityType=priority/multifactor",
            "SlurmdParameters=config_overrides",
            "KillWait=2",
            "MinJobAge=60",
            "MaxArraySize=1001",
            "MaxJobCount=50000",
            "JobRequeue=1",
            "Licenses=matlab:4",
            "GresTypes=gpu,fpga",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "JobCompType=jobcomp/none",
            f"NodeName=n[1-{NODES}] NodeHostname={host} NodeAddr=127.0.0.1"
            f" Port=[{self._node_ports[0]}-{self._node_ports[-1]}]"
            f" CPUs={self._cpus} RealMemory=20000 State=UNKNOWN Feature=fast"
            f" Gres=gpu:a100:{GPUS},fpga:1",
            "PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1",
            "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10"
            " PreemptMode=OFF",
            "PartitionName=down Nodes=ALL MaxTime=INFINITE State=DOWN",
        ]
        if self._accounting:
            lines += [
                "AccountingStorageType=accounting_storage/slurmdbd",
                f"AccountingStorageHost={host}",
                f"AccountingStoragePort={self._dbd_port}",
                f"AccountingStoragePass={munge}/sock",
            ]
            (here / "slurmdbd.conf").write_text(
                f"AuthType=auth/munge\nAuthInfo=socket={munge}/sock\nDbdHost={host}\nDbdAddr=127.0.0.1\nDbdPort={self._dbd_port}\n"
                f"SlurmUser=root\nStorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStoragePort={self._db_port}\n"
                f"StorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm_acct\nLogFile={here}/log/dbd.log\nPidFile={here}/run/dbd.pid\n"
                f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={here}/jwt.key\n"
            )
            (here / "slurmdbd.conf").chmod(0o600)
        nodes = f"NodeName=n[1-{NODES}]"
        (here / "gres.conf").write_text(
            f"{nodes} Name=gpu Type=a100 File=/dev/null\n"
            f"{nodes} Name=gpu Type=a100 File=/dev/zero\n"
            f"{nodes} Name=fpga Count=1\n"
        )
        self.conf.write_text("\n".join(lines) + "\n")

    # Commands

    def command(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's commands as root and return what it said."""
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **self.environment},
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return done.stdout

    def _said(self, *words: str) -> str:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **self.environment},
        ).stdout

    def _try(self, *words: str) -> bool:
        return (
            subprocess.run(
                words, capture_output=True, timeout=60, env={**os.environ, **self.environment}
            ).returncode
            == 0
        )

    def jobs(self, *states: str) -> list[str]:
        """Return id and name of every job or element that is in one of the states (default: pending
        or running)."""
        wanted = ",".join(states) or "PENDING,RUNNING"
        return self.command("squeue", "-h", "-r", "-t", wanted, "-o", "%i %j").splitlines()

    def token(self, user: str, lifespan_s: int = 600) -> str:
        """Return a JWT of a user."""
        return (
            self.command("scontrol", "token", f"username={user}", f"lifespan={lifespan_s}")
            .strip()
            .partition("=")[2]
        )


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Slurm]:
    """A Slurm that runs."""
    slurm = Slurm(**options)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
