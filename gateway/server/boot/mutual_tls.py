"""The listener for client certificates as it is configured: what it shows, by which name it is
reached, and what of that cannot be, beside what its authenticator knows by itself."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway import checks
from gateway.authenticators.mtls import OURS, MutualTlsAuthenticator
from gateway.server.core.user_names import Patterns, Rule, Same
from gateway.server.security.listener_certificate import GivenCertificate
from gateway.wire import SNI_SUFFIX, uid_of_server_name

if TYPE_CHECKING:
    from gateway.proxy.config import Proxy
    from gateway.server.boot.settings import Settings
    from gateway.server.security.sources import Sources

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")  # RFC 3986, §3.1
RULE_LIKE = "'spiffe://example.org/robot/{user}'"


def configured(sources: Sources) -> MutualTlsAuthenticator | None:
    """Return the authenticator of client certificates, None where they are not taken."""
    return next((one for one in sources.members if isinstance(one, MutualTlsAuthenticator)), None)


def pair(options: MutualTlsAuthenticator, proxy: Proxy) -> tuple[str, str]:
    """Return the files with what the listener shows: its own, else the edge's."""
    if options.tls_cert:
        return options.tls_cert, options.tls_key
    return proxy.tls_cert, proxy.tls_key


def certificate(options: MutualTlsAuthenticator, proxy: Proxy) -> GivenCertificate:
    """Return what the listener shows; ConfigurationError if that cannot be had."""
    return GivenCertificate(*pair(options, proxy), "", OURS)


def problems(found: Settings) -> list[str]:
    """Return what is wrong with how the listener stands beside the gateway's others."""
    options = configured(found.authenticator)
    if options is None:
        return []
    wrong = checks.named(f"{OURS}.address", _taken(found, options))
    name = options.server_name
    wrong += checks.named(f"{OURS}.server_name", _collision(found, name))
    if not wrong and name and not options.problems():
        wrong += checks.named(f"{OURS}.tls_cert", _unnamed(found, options))
    for part in found.authenticator.parts:
        if part.authenticator is options:
            wrong += checks.named("c.DaskGateway.user_name", _nobody(part.label, part.rule))
    return wrong


def hints(found: Settings) -> list[str]:
    """Return what will not work for long."""
    options = configured(found.authenticator)
    if options is None or not options.tls_cert:  # the edge's own is told of already
        return []
    now = datetime.datetime.now(datetime.UTC)
    return checks.named(f"{OURS}.tls_cert", checks.expiry(options.tls_cert, now))


def _taken(found: Settings, options: MutualTlsAuthenticator) -> str:
    """Whose address it is already."""
    mine = checks.parts(options.address)
    if mine is None or not mine[1]:
        return ""
    others = {
        "c.DaskGateway.address": found.server.address,
        "c.Proxy.address": found.proxy.address,
        "c.Proxy.admin_address": found.proxy.admin_address,
    }
    for setting, text in others.items():
        other = checks.parts(text)
        if other is None or other[1] != mine[1]:
            continue
        if other[0] == mine[0] or {other[0], mine[0]} & set(checks.EVERYWHERE):
            return f"{options.address} is {setting} already; name another port"
    return ""


def _collision(found: Settings, name: str) -> str:
    """What else the name leads to."""
    public = urlsplit(found.server.public_url).hostname or ""
    own = (checks.parts(found.proxy.address) or ("", 0))[0]
    if name and name in (public, own):
        setting = "c.DaskGateway.public_url" if name == public else "c.Proxy.address"
        return (
            f"{name} is the gateway's usual name ({setting}), by which browsers and all other"
            f" callers come; give another one, such as mtls.{name}"
        )
    if name.endswith(SNI_SUFFIX) or uid_of_server_name(name) is not None:
        return (
            f"{name} is a name that clusters have; give one that ends otherwise than {SNI_SUFFIX}"
        )
    return ""


def _unnamed(found: Settings, options: MutualTlsAuthenticator) -> str:
    """Why nobody who looks for the name would take what the listener shows."""
    shown, key = pair(options, found.proxy)
    if not shown:
        return (
            "must name the listener's certificate, as there is no c.Proxy.tls_cert that could serve"
        )
    if any(checks.key_pair(shown, key)):
        return ""  # said of the edge's own
    why = checks.verified(shown, key, shown, options.server_name)
    if not why:
        return ""
    whose = "" if options.tls_cert else ", which is c.Proxy.tls_cert as tls_cert is not set,"
    return f"{shown}{whose} is not good for {options.server_name}: {why}"


def _nobody(label: str, rule: Rule) -> str:
    """Why the site's rule makes no user of any certificate."""
    if isinstance(rule, Same):
        return (
            f"{label}: certificates name URIs, which are no user names; set"
            f" c.DaskGateway.user_name = {{{label!r}: {RULE_LIKE}}}"
        )
    if isinstance(rule, Patterns) and not any(_URI.match(str(one)) for one, _ in rule.steps):
        there = " nor ".join(str(one) for one, _ in rule.steps)
        return (
            f"{label}: no URI looks like {there}, so that no certificate would name anybody; a"
            f" pattern looks like {RULE_LIKE}"
        )
    return ""
