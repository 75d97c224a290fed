"""Client certificates: every promise of an authenticator, the deny list, authorities that change,
and what check-config finds wrong."""

from __future__ import annotations

import base64
import datetime
import os
import pathlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from traitlets.config import Config

from gateway.authenticators import deny_list as deny_lists
from gateway.authenticators import mtls
from gateway.authenticators.conformance import Conformance, Source
from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials, SignInRefused
from gateway.authenticators.mtls import MutualTlsAuthenticator
from gateway.configfile import ConfigurationError
from gateway.server.boot.settings import examine
from gateway.server.core.user_names import rule_of
from gateway.server.security.sources import Part, Sources
from gateway.wire import CLIENT_CERTIFICATE
from tests.authenticators.pretend import Directory, PretendAuthenticator
from tests.parts.client_certificates import ROBOT, Authority, Pair, uri

CANNOT = {
    "change": "certificates tell neither groups nor who is an admin",
    "remove": "who a certificate was given to is not asked about again",
    "renew": "an old certificate is good until it expires or is taken back",
    "replayed": "a certificate is shown with every connection",
    "outage": "files are read, and no network is asked",
    "hang": "files are read, and no network is asked",
    "slow": "a certificate is judged by files, and nobody is asked",
    "lies": "a certificate is judged by files, and nobody is asked",
    "impostor": "certificates cannot be asked about users",
    "asked_by_name": "certificates cannot be asked about users",
    "names": "a certificate that is wrong names nobody",
    "passwords": "a certificate is shown, no password",
    "letter_case": "a certificate names its user to the letter",
    "stamps": "a user may have several certificates",
    "odd": "the URI is told as it is, to the letter",
}


def shown(pair: Pair, *above: x509.Certificate) -> Credentials:
    """Return a certificate as TLS tells it."""
    chain = [pair.certificate, *above]
    ders = [one.public_bytes(serialization.Encoding.DER) for one in chain]
    value = ".".join(base64.b64encode(der).decode() for der in ders)
    return Credentials(CLIENT_CERTIFICATE, value, "192.0.2.1")


class Robots:
    """An authenticator's files, and who signs."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.mine, self.others = Authority(directory, "mine"), Authority(directory, "others")
        self.site = Authority(directory, "site")
        self.server = self.site.server("mtls.example.org")
        self.ca, self.denied = directory / "ca.pem", directory / "denied"
        self.ca.write_bytes(self.mine.pem)
        self.denied.write_text("")

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return settings that are right but for some."""
        return {
            "server_name": "mtls.example.org",
            "client_ca": str(self.ca),
            "deny_list": str(self.denied),
            "tls_cert": str(self.server.cert),
            "tls_key": str(self.server.key),
            **more,
        }

    def authenticator(self, **more: Any) -> MutualTlsAuthenticator:
        """Return an authenticator."""
        return MutualTlsAuthenticator(**self.settings(**more))


@pytest.fixture
def robots(tmp_path: pathlib.Path) -> Robots:
    """Files that are right."""
    return Robots(tmp_path)


@pytest.fixture
async def opened(
    robots: Robots, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MutualTlsAuthenticator]:
    """An authenticator that looks at its files each time."""
    monkeypatch.setattr(mtls, "LOOK_S", 0.0)
    monkeypatch.setattr(deny_lists, "LOOK_S", 0.0)
    made = robots.authenticator()
    await made.open()
    yield made
    await made.close()


class TestMutualTls(Conformance):
    """The suite, over what the server makes of it."""

    @pytest.fixture
    async def source(self, robots: Robots) -> AsyncIterator[Source]:
        people: dict[str, Any] = {"admins": set(), "groups": {}}
        made: list[MutualTlsAuthenticator] = []

        async def again() -> Sources:
            one = robots.authenticator(**people)
            made.append(one)
            return Sources([Part("mtls", one, rule_of(ROBOT + "{user}"))])

        async def add(user: str, *, admin: bool, groups: Any) -> None:
            people["groups"][uri(user)] = list(groups)
            if admin:
                people["admins"].add(uri(user))
            for one in made:
                one.groups, one.admins = dict(people["groups"]), set(people["admins"])

        async def ending(user: str) -> tuple[Credentials, int]:
            pair = robots.mine.robot(uri(user), until=timedelta(hours=1))
            ends = pair.certificate.not_valid_after_utc
            return shown(pair), int(ends.timestamp() * 1000)

        async def show(user: str) -> Credentials:
            if user not in kept:
                kept[user] = robots.mine.robot(uri(user))
            return shown(kept[user])

        async def wrong(user: str) -> Credentials:
            return shown(robots.others.robot(uri(user)))

        async def expired(user: str) -> Credentials:
            hour = timedelta(hours=1)
            return shown(robots.mine.robot(uri(user), since=-2 * hour, until=-hour))

        async def off_by(user: str, seconds: float) -> Credentials:
            return shown(robots.mine.robot(uri(user), since=timedelta(seconds=seconds)))

        kept: dict[str, Pair] = {}
        source = Source(
            await again(),
            again=again,
            add=add,
            show=show,
            wrong=wrong,
            expired=expired,
            ending=ending,
            off_by=off_by,
            asked_by_name=False,
            names=False,
            passwords=False,
            letter_case=False,
            stamps=False,
            cannot=CANNOT,
        )
        await source.open()
        yield source
        await source.close()


async def why(authenticator: MutualTlsAuthenticator, credentials: Credentials) -> str:
    """Return why a certificate is refused, however it was before."""
    assert authenticator.remembered(credentials) is None
    with pytest.raises(SignInRefused) as caught:
        await authenticator.authenticate(credentials)
    return caught.value.why


async def test_a_certificate_names_its_uri_and_holds_until_it_expires(
    robots: Robots, opened: MutualTlsAuthenticator
) -> None:
    pair = robots.mine.robot(uri("nightly"))
    told = await opened.authenticate(shown(pair))
    assert told is not None
    assert told.user == uri("nightly")
    assert told.expires_at == pair.certificate.not_valid_after_utc.timestamp() * 1000
    assert opened.remembered(shown(pair)) == told
    opened.now = lambda: told.expires_at - 1
    assert opened.remembered(shown(pair)) == told
    opened.now = lambda: told.expires_at
    assert "has expired" in await why(opened, shown(pair))
    assert not opened.holds_untold(told)


async def test_one_that_is_not_valid_yet_is_refused_to_the_second(
    robots: Robots, opened: MutualTlsAuthenticator
) -> None:
    pair = robots.mine.robot(uri("nightly"))
    begins = int(pair.certificate.not_valid_before_utc.timestamp() * 1000)
    opened.now = lambda: begins - 1
    assert "not valid yet" in await why(opened, shown(pair))
    opened.now = lambda: begins
    assert await opened.authenticate(shown(pair)) is not None


async def test_no_header_can_be_taken_for_a_certificate(
    robots: Robots, opened: MutualTlsAuthenticator
) -> None:
    value = shown(robots.mine.robot(uri("nightly"))).value
    for scheme in ("client", "certificate", "bearer", "basic", ""):
        assert await opened.authenticate(Credentials(scheme, value, "192.0.2.1")) is None
        assert opened.remembered(Credentials(scheme, value, "192.0.2.1")) is None
    assert " " in CLIENT_CERTIFICATE  # a header's scheme ends at the first blank


async def test_a_chain_counts_by_an_authority_between_and_not_by_anybody_else(
    robots: Robots, opened: MutualTlsAuthenticator, tmp_path: pathlib.Path
) -> None:
    below = Authority(tmp_path, "below", robots.mine)
    pair = below.robot(uri("nightly"))
    assert "of no authority" in await why(opened, shown(pair))
    assert "of no authority" in await why(opened, shown(pair, robots.others.certificate))
    assert await opened.authenticate(shown(pair, below.certificate)) is not None
    client = robots.mine.robot(uri("thief"))
    forger = Authority(tmp_path, "admin")  # as the client's certificate is called
    forger.key = client.secret
    forged = forger.robot(uri("nightly"))
    assert "of no authority" in await why(opened, shown(forged, client.certificate))


async def test_the_deny_list_is_read_again_and_ends_what_was_opened(
    robots: Robots, opened: MutualTlsAuthenticator
) -> None:
    first, second = robots.mine.robot(uri("nightly")), robots.mine.robot(uri("nightly"))
    told = await opened.authenticate(shown(first))
    other = await opened.authenticate(shown(second))
    assert told is not None
    assert other is not None
    robots.denied.write_text(f"serial={first.certificate.serial_number:X}\n")
    assert "was taken back" in await why(opened, shown(first))
    assert not opened.holds_untold(told)
    assert opened.holds_untold(other)
    fingerprint = second.certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    robots.denied.write_text(f"sha256 Fingerprint={fingerprint}  # lost\n")
    assert "was taken back" in await why(opened, shown(second))
    assert await opened.authenticate(shown(first)) is not None


async def test_a_deny_list_that_cannot_be_read_holds_for_a_while_and_then_nobody_is_let_in(
    robots: Robots, opened: MutualTlsAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = robots.mine.robot(uri("nightly")), robots.mine.robot(uri("weekly"))
    robots.denied.write_text(f"serial={bad.certificate.serial_number:X}\n")
    told = await opened.authenticate(shown(good))
    assert told is not None
    robots.denied.write_text("what is this\n")
    assert opened.remembered(shown(good)) == told
    assert "was taken back" in await why(opened, shown(bad))
    monkeypatch.setattr(opened._denied, "_outage_s", 0.0)
    assert opened.remembered(shown(good)) is None
    with pytest.raises(AuthenticatorUnavailable, match="line 1: must be serial="):
        await opened.authenticate(shown(good))
    assert not opened.holds_untold(told)
    robots.denied.write_text("")
    assert await opened.authenticate(shown(good)) == told


async def test_an_authority_that_is_taken_away_counts_no_longer(
    robots: Robots, opened: MutualTlsAuthenticator
) -> None:
    old, new = robots.mine.robot(uri("nightly")), robots.others.robot(uri("nightly"))
    told = await opened.authenticate(shown(old))
    assert told is not None
    robots.ca.write_bytes(robots.mine.pem + robots.others.pem)
    assert await opened.authenticate(shown(new)) is not None
    robots.ca.write_bytes(robots.others.pem)
    assert "of no authority" in await why(opened, shown(old))
    assert not opened.holds_untold(told)
    assert opened.authorities() == robots.others.pem
    robots.ca.write_text("no certificate\n")  # the old ones stay
    assert opened.authorities() == robots.others.pem
    assert await opened.authenticate(shown(new)) is not None


async def test_of_several_authenticators_too_what_was_taken_back_ends(
    robots: Robots, opened: MutualTlsAuthenticator
) -> None:
    both = Sources(
        [
            Part("mtls", opened, rule_of({ROBOT + "{user}": "{user}@robots"})),
            Part("directory", PretendAuthenticator(Directory()), rule_of("{user}@HERE")),
        ]
    )
    pair = robots.mine.robot(uri("nightly"))
    told = await both.authenticate(shown(pair))
    assert told is not None
    assert (told.user, told.way) == ("nightly@robots", "mtls")
    await _asked(both, told.user)
    assert both.holds_untold(told)
    robots.denied.write_text(f"serial={pair.certificate.serial_number:X}\n")
    assert not both.holds_untold(told)


async def _asked(sources: Sources, user: str) -> None:
    from gateway.authenticators.contract import IdentityNotTold

    with pytest.raises(IdentityNotTold):
        await sources.identity(user)


@pytest.mark.parametrize(
    "line",
    [
        "serial=0A1B",
        "serial=0x0a1b",
        "serial: 0a:1b",
        "SERIAL = A1B # lost",
        "sha256 Fingerprint=" + ":".join(["AB"] * 32),
        "SHA256 Fingerprint=" + ":".join(["ab"] * 32),
        "sha-256: " + "ab" * 32,
    ],
)
def test_lines_of_a_deny_list_are_as_openssl_prints_them(line: str) -> None:
    told = deny_lists.parsed(f"# a comment\n\n{line}\n")
    assert told.serials | told.fingerprints <= {0x0A1B, "ab" * 32}
    assert len(told.serials) + len(told.fingerprints) == 1


@pytest.mark.parametrize(
    "line",
    ["0A1B", "serial=", "serial=xyz", "sha1 Fingerprint=AB", "sha256 Fingerprint=AB:CD", uri("a")],
)
def test_another_line_in_a_deny_list_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 2: must be serial="):
        deny_lists.parsed(f"\n{line}\n")


# check-config


def problems(robots: Robots, gateway: dict[str, Any] | None = None, **settings: Any) -> str:
    """Return what check-config says of settings."""
    config = Config()
    config.DaskGateway.authenticator = "mtls"
    config.DaskGateway.state_dir = str(robots.ca.parent / "state")
    config.DaskGateway.user_name = {"mtls": {ROBOT + "{user}": "{user}"}}
    for section, values in (gateway or {}).items():
        config[section].update(values)
    config.MutualTlsAuthenticator.update(robots.settings(**settings))
    return "\n".join(line for line in examine(config).problems if "LocalBackend" not in line)


def test_what_is_right_has_no_problem(robots: Robots) -> None:
    assert problems(robots) == ""


@pytest.mark.parametrize(
    ("gateway", "settings", "words"),
    [
        ({}, {"client_ca": ""}, "client_ca: must name a PEM file with the authorities"),
        ({}, {"client_ca": "/no/such"}, "client_ca: /no/such: there is no such file"),
        ({}, {"client_ca": "KEY"}, "client_ca: "),
        ({}, {"client_ca": "LEAF"}, "holds no authority's certificate"),
        ({}, {"deny_list": "/no/such"}, "deny_list: /no/such: there is no such file"),
        ({}, {"deny_list": "KEY"}, "line 1: must be serial="),
        ({}, {"address": "somewhere"}, "address: must be host:port"),
        (
            {"DaskGateway": {"address": "0.0.0.0:8786"}},
            {"address": "127.0.0.1:8786"},
            "127.0.0.1:8786 is c.DaskGateway.address already",
        ),
        ({}, {"server_name": ""}, "server_name: must be a name by which the edge is reached too"),
        ({}, {"server_name": "127.0.0.1"}, "server_name: must be a name"),
        ({}, {"server_name": "MTLS.example.org"}, "in small letters"),
        ({}, {"server_name": "other.example.org"}, "is not good for other.example.org"),
        ({}, {"server_name": "x.daskgateway"}, "is a name that clusters have"),
        (
            {"DaskGateway": {"public_url": "https://mtls.example.org"}},
            {},
            "mtls.example.org is the gateway's usual name (c.DaskGateway.public_url)",
        ),
        ({}, {"tls_cert": "", "tls_key": ""}, "must name the listener's certificate"),
        ({}, {"tls_key": ""}, "tls_cert and tls_key: set both or none"),
        ({}, {"tls_key": "KEY"}, "is not the key of the first certificate"),
        ({"DaskGateway": {"user_name": ""}}, {}, "certificates name URIs, which are no user names"),
        (
            {"DaskGateway": {"user_name": "{user}@EXAMPLE.ORG"}},
            {},
            "no URI looks like {user}@EXAMPLE.ORG",
        ),
        ({}, {"admins": {"root"}}, "admins: 'root' is no URI such as"),
        ({}, {"groups": {"root": ["x"]}}, "groups: 'root' is no URI such as"),
    ],
)
def test_check_config_tells_what_is_wrong(
    robots: Robots, gateway: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    leaf = robots.mine.robot(uri("nightly"))
    files = {"KEY": str(leaf.key), "LEAF": str(leaf.cert)}
    given = {name: files.get(str(value), value) for name, value in settings.items()}
    assert words in problems(robots, gateway, **given)


def test_files_that_others_can_change_are_refused(robots: Robots) -> None:
    os.chmod(robots.denied, 0o666)
    assert "others can change it" in problems(robots)
    os.chmod(robots.denied, 0o644)
    os.chmod(robots.ca, 0o666)
    assert "others can change it" in problems(robots)


async def test_no_server_begins_with_files_that_are_wrong(robots: Robots) -> None:
    robots.denied.write_text("what is this")
    with pytest.raises(ConfigurationError, match="deny_list"):
        await robots.authenticator().open()


def test_an_authority_that_has_expired_is_told(robots: Robots) -> None:
    later = datetime.datetime.now(datetime.UTC) + timedelta(days=60)
    made = robots.authenticator()
    made.now = lambda: int(later.timestamp() * 1000)
    assert "every certificate in it has expired" in "\n".join(made.problems())
