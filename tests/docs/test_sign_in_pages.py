"""Pages about sign-in, followed from an empty directory: their commands and their configurations as
they stand; only names, ports and directories are those here."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.docs.pages import blocks, run
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import missing, program
from tests.parts.kerberos import REALM, Realm, realm
from tests.parts.slapd import ROOT, Slapd, slapd

__all__ = ["realm", "slapd"]
pytestmark = pytest.mark.timeout(600)
GATEWAY, PLACE = "https://dask.example.org", "/etc/daskgateway/"
QUICKLY = "c.DaskGateway.drain_s = 0.5"


@pytest.fixture
def started() -> Iterator[list[GatewayProcess]]:
    """Gateways of a test, which end with it."""
    made: list[GatewayProcess] = []
    yield made
    for one in made:
        one.end()


def environment(home: pathlib.Path, **more: str) -> dict[str, str]:
    """Return what programs of somebody with this home directory find."""
    there = {
        name: value for name, value in os.environ.items() if not name.startswith("DASKGATEWAY_")
    }
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return {**there, "HOME": str(home), "PATH": path, "DASK_GATEWAY__RETRY_FOR": "30s", **more}


def checked(gateway: GatewayProcess, **more: str) -> str:
    """Return what `daskgateway check-config` says of a gateway's configuration."""
    words = [sys.executable, "-m", "gateway", "check-config", "--config", str(gateway.config)]
    done = subprocess.run(
        words,
        env=environment(gateway.directory, **more),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.stderr


def test_passwords_and_tokens(tmp_path: pathlib.Path, started: list[GatewayProcess]) -> None:
    make, use = blocks("sign-in", "console")
    [settings, *_] = blocks("sign-in", "python")
    (tmp_path / "typed").write_text("wonderland\n")
    make = make.replace(PLACE, f"{tmp_path}/")
    # who reads it types the password
    make = make.replace(
        "daskgateway hash-password", f"daskgateway hash-password --stdin <{tmp_path}/typed"
    )
    done = run(make, tmp_path, **environment(tmp_path))
    assert done.returncode == 0, done.stderr
    served = GatewayProcess(tmp_path, settings.replace(PLACE, f"{tmp_path}/"), QUICKLY)
    served.config.write_text(
        re.sub("c.PasswordAuthenticator.users = .*", "", served.config.read_text())
    )
    started.append(served)
    assert checked(served) == ""
    served.start()
    use = use.replace(GATEWAY, served.address).replace(
        "--user alice", f"--user alice <{tmp_path}/typed"
    )
    done = run(use, tmp_path, **environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "signed in as alice" in done.stdout
    assert re.search(r"alice \(admin\)\n.*signed in by password, until ", done.stdout)
    assert "\nin the groups physics\n" in done.stdout
    told = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    assert (told["user"], told["groups"]) == ("alice", ["physics"])
    assert done.stdout.endswith("signed out\n")


def test_kerberos(realm: Realm, tmp_path: pathlib.Path, started: list[GatewayProcess]) -> None:
    install, key = blocks("kerberos", "console")
    assert "libkrb5-dev" in install
    realm.admin("delprinc -force HTTP/localhost")  # the page makes it
    key = key.replace("kadmin -q", f"{realm.kadmin} -r {REALM} -q").replace(PLACE, f"{tmp_path}/")
    key = key.replace("dask.example.org", "localhost").replace("chown daskgateway", "chown root")
    kerberos = {name: value for name, value in realm.environment.items() if name.startswith("KRB5")}
    done = run(key, tmp_path, **environment(tmp_path, **kerberos))
    assert done.returncode == 0, done.stderr
    [settings, use_python] = blocks("kerberos", "{code-block} python")
    settings = settings.replace(PLACE, f"{tmp_path}/").replace("EXAMPLE.ORG", REALM)
    served = GatewayProcess(tmp_path, settings, QUICKLY)
    started.append(served)
    assert checked(served) == ""
    served.start()
    address = served.address.replace("127.0.0.1", "localhost")
    [use, curl] = blocks("kerberos", "{code-block} console")
    use = "\n".join(line for line in use.splitlines() if "pip install" not in line)
    use = use.replace("kinit", "echo alice-password | kinit alice").replace(GATEWAY, address)
    patient = {"DASK_GATEWAY__AUTH__TYPE": "kerberos", "DASK_GATEWAY__AUTH__KWARGS__TIMEOUT": "100"}
    mine = environment(tmp_path, **kerberos, **patient, KRB5CCNAME=f"FILE:{tmp_path}/cache")
    done = run(use + "\n" + curl.replace(GATEWAY, address), tmp_path, **mine)
    assert done.returncode == 0, done.stderr
    assert re.search(r"alice\n.*Kerberos ticket.*signed in by kerberos, until ", done.stdout), done
    assert json.loads(done.stdout[done.stdout.index("{") :])["session"]["user"] == "alice"
    realm.admin(f"ktadd -norandkey -k {tmp_path}/robot.keytab bob")
    use_python = use_python.replace("~/", f"{tmp_path}/").replace(
        "robot@EXAMPLE.ORG", f"bob@{REALM}"
    )
    use_python = use_python.replace("principal=", "timeout=100, principal=")
    script = use_python.replace(GATEWAY, address) + "\nprint(gateway.whoami().user)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=mine,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "bob\n"), done.stderr


def test_ldap(slapd: Slapd, tmp_path: pathlib.Path, started: list[GatewayProcess]) -> None:
    if importlib.util.find_spec("bonsai") is None:
        missing("bonsai", "pip install -e '.[ldap]'")
    [settings, *_] = blocks("ldap", "{code-block} python")
    settings = settings.replace(
        "ldaps://ldap1.example.org ldaps://ldap2.example.org", slapd.tls_url
    )
    settings = settings.replace("cn=daskgateway,ou=services,dc=example,dc=org", ROOT)
    settings = settings.replace("/etc/daskgateway/ldap-password", str(slapd.password_file))
    slapd.add("alice", "of-alice")
    slapd.group("dask-admins", ["alice"])
    served = GatewayProcess(
        tmp_path,
        settings,
        QUICKLY,
        f"c.LdapAuthenticator.ca_file = {str(slapd.ca_file)!r}",
        "c.LdapAuthenticator.timeout_s = 30",
    )
    started.append(served)
    assert checked(served) == ""
    served.start()
    script = "\n".join(
        (
            f"echo of-alice | daskgateway login --user alice --address {served.address}",
            f"daskgateway whoami --address {served.address}",
            f"echo wrong | daskgateway login --user alice --address {served.address} && exit 1",
            f"daskgateway logout --address {served.address}",
        )
    )
    program("curl", "apt-get install curl")
    done = run(script, tmp_path, **environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"alice \(admin\)\n.*signed in by ldap, until ", done.stdout), done.stdout
    assert "does not accept the user and password of the user 'alice'" in done.stderr
