"""A Kerberos realm of the tests' own: MIT krb5's KDC in a private directory, on 127.0.0.1 alone.

Whatever uses the realm runs in a process of its own, as krb5.conf is named by the environment of a
process, or in one where `KRB5_CONFIG` is set before Kerberos is first used.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

import pytest

from tests.parts import end, missing, program, standing_still
from tests.ports import free_port

INSTALL = "make parts"
EXTRA = "pip install -e '.[kerberos]'"
REALM = "TEST.REALM"
START_S = 60.0


class Realm:
    """The realm."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.config = directory / "krb5.conf"
        self.keytab = directory / "http.keytab"
        self.kadmin = program("kadmin.local", INSTALL)
        self.kdc = program("krb5kdc", INSTALL)
        self.util = program("kdb5_util", INSTALL)
        self.kinit_program = program("kinit", INSTALL)

    @property
    def environment(self) -> Mapping[str, str]:
        """What programs of the realm find."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("KRB5")},
            "KRB5_CONFIG": str(self.config),
            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"),
            "KRB5RCACHEDIR": str(self.directory),
            "LC_ALL": "C.UTF-8",
        }

    def start(self) -> None:
        """Make the realm, and answer."""
        here = self.directory
        self.config.write_text(
            f"""[libdefaults]
default_realm = {REALM}
dns_lookup_realm = false
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
qualify_shortname = ""
udp_preference_limit = 1
forwardable = false
[realms]
{REALM} = {{
  kdc = 127.0.0.1:{self.port}
}}
[domain_realm]
localhost = {REALM}
127.0.0.1 = {REALM}
"""
        )
        (here / "kdc.conf").write_text(
            f"""[kdcdefaults]
kdc_listen = 127.0.0.1:{self.port}
kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
{REALM} = {{
  database_name = {here}/principal
  key_stash_file = {here}/stash
  acl_file = {here}/kadm5.acl
  max_life = 10h
  supported_enctypes = aes256-cts:normal
}}
[logging]
kdc = FILE:{here}/kdc.log
"""
        )
        self._run([self.util, "create", "-s", "-r", REALM, "-P", "of-the-database"])
        self.admin("addprinc -pw alice-password alice", "addprinc -pw bob-password bob")
        services = "HTTP/localhost HTTP/127.0.0.1"
        for service in services.split():
            self.admin(f"addprinc -randkey {service}")
        self.admin(f"ktadd -norandkey -k {self.keytab} {services}")
        with (here / "kdc.err").open("wb") as errors:
            self.process = subprocess.Popen(
                [self.kdc, "-n", "-P", str(here / "kdc.pid")],
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._answers()

    def _answers(self) -> None:
        give_up_at = time.monotonic() + START_S
        while time.monotonic() < give_up_at:
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, (self.directory / "kdc.err").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the KDC does not answer")

    def stop(self) -> None:
        """End."""
        end(self.process)

    def _run(self, words: list[str], text: str = "") -> str:
        done = subprocess.run(
            words,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def admin(self, *commands: str) -> None:
        """Do something to the database; one that fails says so on standard error alone."""
        for command in commands:
            told = self._run([self.kadmin, "-r", REALM, "-q", command])
            lines = [
                line for line in told.splitlines() if "no policy specified" not in line.lower()
            ]
            wrong = [line for line in lines if "while" in line or "error" in line.lower()]
            assert not wrong, wrong

    def cache(self, user: str, life: str = "") -> str:
        """Return a new ticket cache of a user."""
        path = self.directory / f"cc-{user}-{len(list(self.directory.glob('cc-*')))}"
        words = [self.kinit_program, "-c", f"FILE:{path}", *(["-l", life] if life else []), user]
        self._run(words, f"{user}-password\n")
        return f"FILE:{path}"

    def client_keytab(self, user: str) -> pathlib.Path:
        """Return a keytab with a user's key."""
        path = self.directory / f"{user}.keytab"
        if not path.exists():
            self.admin(f"ktadd -norandkey -k {path} {user}")
        return path

    def hung(self) -> AbstractContextManager[None]:
        """Accept connections, and answer none of them."""
        return standing_still(self.process)


def need_gssapi() -> None:
    """Skip where there is no gssapi, fail in CI."""
    if importlib.util.find_spec("gssapi") is None:
        missing("gssapi", f"{INSTALL}; {EXTRA}")


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm for a module's tests, which this process uses too."""
    need_gssapi()
    made = Realm(tmp_path_factory.mktemp("realm"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            if name.startswith("KRB5"):
                patch.setenv(name, value)
        # no ticket of whoever runs the tests
        patch.setenv("KRB5CCNAME", f"FILE:{made.directory}/nobody")
        try:
            made.start()
            yield made
        finally:
            made.stop()
            shutil.rmtree(made.directory, ignore_errors=True)
