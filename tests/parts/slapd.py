"""A real directory: OpenLDAP's slapd in a private directory, on 127.0.0.1, with TLS and without."""

from __future__ import annotations

import base64
import importlib.util
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.authenticators.directory import escaped_in_dn
from tests.parts import end, missing, program, standing_still
from tests.ports import free_ports

INSTALL = "make parts"
SUFFIX = "dc=example,dc=org"
ROOT = f"cn=admin,{SUFFIX}"
ROOT_PASSWORD = "of-the-directory"
PEOPLE, GROUPS = f"ou=people,{SUFFIX}", f"ou=groups,{SUFFIX}"
START_S = 60.0


class Slapd:
    """The directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.port, self.tls_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        self.program = program("slapd", INSTALL)
        self.modify_program = program("ldapmodify", INSTALL)
        self.password_file = directory / "bind-password"
        self.ca_file = directory / "ca.pem"

    @property
    def url(self) -> str:
        """Where it is, without TLS."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Where it is, with TLS."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        """Begin to answer, with no people."""
        here = self.directory
        (here / "db").mkdir(exist_ok=True)
        self.password_file.write_text(f"{ROOT_PASSWORD}\n")
        self.password_file.chmod(0o600)
        _certificates(here)
        (here / "slapd.conf").write_text(
            f"""include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {here}/slapd.pid
referral ldap://ldap.other.example.org
TLSCACertificateFile {here}/ca.pem
TLSCertificateFile {here}/server.pem
TLSCertificateKeyFile {here}/server.key
database mdb
suffix "{SUFFIX}"
rootdn "{ROOT}"
rootpw {ROOT_PASSWORD}
directory {here}/db
access to attrs=userPassword by anonymous auth by * none
access to dn.base="uid=blind,{PEOPLE}" by dn.base="{ROOT}" read by * none
access to * by dn.base="{ROOT}" read by users read by * none
"""
        )
        self.run()
        self.change(
            f"dn: {SUFFIX}\nchangetype: add\nobjectClass: dcObject\nobjectClass: organization\n"
            "o: Example\ndc: example\n",
            f"dn: {PEOPLE}\nchangetype: add\nobjectClass: organizationalUnit\nou: people\n",
            f"dn: {GROUPS}\nchangetype: add\nobjectClass: organizationalUnit\nou: groups\n",
        )

    def run(self) -> None:
        """Run the program, on the database there is."""
        here = self.directory
        words = ["-f", str(here / "slapd.conf"), "-h", f"{self.url} {self.tls_url}", "-d", "0"]
        with (here / "slapd.err").open("wb") as errors:
            self.process = subprocess.Popen(
                [self.program, *words], stdout=subprocess.DEVNULL, stderr=errors
            )
        give_up_at = time.monotonic() + START_S
        while time.monotonic() < give_up_at:
            assert self.process.poll() is None, (here / "slapd.err").read_text()
            try:
                for port in (self.port, self.tls_port):
                    socket.create_connection(("127.0.0.1", port), 5).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("slapd does not answer")

    def stop(self) -> None:
        """End."""
        end(self.process)

    def change(self, *changes: str) -> None:
        """Do changes, as LDIF (RFC 2849)."""
        done = subprocess.run(
            [self.modify_program, "-x", "-H", self.url, "-D", ROOT, "-w", ROOT_PASSWORD],
            input="\n\n".join(changes) + "\n",
            env={**os.environ, "LDAPNOINIT": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def add(self, user: str, password: str) -> None:
        """Add somebody. The description stands for an attribute that changes with a password."""
        self.change(
            f"{_line('dn', f'uid={escaped_in_dn(user)},{PEOPLE}')}\nchangetype: add\n"
            f"objectClass: inetOrgPerson\n{_line('uid', user)}\ncn: Somebody\nsn: Somebody\n"
            f"{_line('userPassword', password)}\n{_line('description', f'of {password}'[:6])}\n"
        )

    def renew(self, user: str, password: str, serial: str) -> None:
        """Change somebody's password."""
        self.change(
            f"dn: uid={user},{PEOPLE}\nchangetype: modify\nreplace: userPassword\n"
            f"{_line('userPassword', password)}\n-\nreplace: description\ndescription: {serial}\n"
        )

    def remove(self, name: str, *, referral: bool = False) -> None:
        """Remove an entry; `referral`: one that says that it is at another directory."""
        control = "control: 2.16.840.1.113730.3.4.2 true\n" if referral else ""
        self.change(f"dn: {name}\n{control}changetype: delete\n")

    def group(self, group: str, users: list[str]) -> None:
        """Make a group of users."""
        members = "".join(f"member: uid={user},{PEOPLE}\n" for user in users)
        self.change(
            f"dn: cn={group},{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\ncn: {group}\n"
            f"member: cn=nobody\n{members}"
        )

    def regroup(self, group: str, users: list[str]) -> None:
        """Say who is in a group."""
        members = "".join(f"member: uid={user},{PEOPLE}\n" for user in users)
        self.change(
            f"dn: cn={group},{GROUPS}\nchangetype: modify\nreplace: member\nmember: cn=nobody\n"
            f"{members}"
        )

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections."""
        self.stop()
        try:
            yield
        finally:
            self.run()

    def hung(self) -> AbstractContextManager[None]:
        """Accept connections, and answer none of them."""
        return standing_still(self.process)


def _line(name: str, value: str) -> str:
    """Return a line of LDIF, whatever the value holds."""
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def _certificates(directory: pathlib.Path) -> None:
    """Make a CA, and a certificate of 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.timezone.utc)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in ("ca", "me")]
    made = []
    for number, (key, name) in enumerate(zip(keys, names)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=number == 0, path_length=None), critical=True)
        )
        if number:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(
                x509.SubjectAlternativeName([address, x509.DNSName("localhost")]), critical=False
            )
        made.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(made[0].public_bytes(pem))
    (directory / "server.pem").write_bytes(made[1].public_bytes(pem))
    private = keys[1].private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.key").write_bytes(private)
    (directory / "server.key").chmod(0o600)


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A directory for a module's tests."""
    if importlib.util.find_spec("bonsai") is None:
        missing("bonsai", f"{INSTALL}; pip install -e '.[ldap]'")
    made = Slapd(tmp_path_factory.mktemp("slapd"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
