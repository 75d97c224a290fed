"""Signing in from a terminal or a notebook, by a code that is entered in a browser or by a
password; and out."""

from __future__ import annotations

import getpass
import os
import platform
import time
from collections.abc import Callable

from daskgateway.v1 import credential_service_pb2 as pb

from gateway.client.calls import api, errors, grants, logins, settings
from gateway.client.calls.auths import Auth, BasicAuth, current_user
from gateway.client.calls.grants import Program
from gateway.client.calls.logins import KeptSession, Login, StoredLogin, StoredSession
from gateway.client.calls.sessions import RENEW_AT, When
from gateway.client.gateway import Gateway
from gateway.client.model import Caller, SignInOption
from gateway.printable import printable


class _Once(BasicAuth):
    """A user with a password, which is shown for the session that is to be kept."""

    session = When.NEVER


def login(
    address: str | None = None,
    *,
    way: str = "",
    user: str = "",
    show: Callable[[str], object] = print,
    ask: Callable[[str], str] = getpass.getpass,
) -> Caller:
    """Sign in, by a code that is entered in a browser, on this machine or another, or where there
    is no such way by a password; what follows is kept, and `Gateway(address)` uses it from then on.
    Return who that is.

    :param address: the gateway's; by default as Dask's configuration says.
    :param way: which of `sign_in_options`, where several let one sign in so.
    :param user: whose password it is, by default that of who runs this program; with a name, a
        password is asked for in any case.
    :param show: shows a text to the user.
    :param ask: returns the user's answer to a text: the password.
    """
    where = settings.load(address, settings.Auth()).address
    with Gateway(where, auth=settings.Auth()) as stranger:
        option = _chosen(stranger.sign_in_options(), way, bool(user))
    file = logins.LoginFile()
    before = _before(file, where)
    kept: Login | KeptSession
    auth: Auth
    if option.device is None:
        kept = _by_password(where, user or current_user(), ask)
        auth = StoredSession(where, kept)
    else:
        kept = _by_code(option, show)
    try:
        file.keep(where, kept)
    except ValueError:
        _end(where, kept)
        raise
    if isinstance(kept, Login):
        auth = StoredLogin(where)
    try:
        with Gateway(where, auth=auth) as known:
            caller = known.whoami()
    except errors.AuthenticationFailed:
        file.forget(where)
        if before is not None:
            file.keep(where, before)
        raise
    if isinstance(kept, Login) and not kept.grant.refresh_token:
        show("The identity provider gave nothing to renew this sign-in by: it ends soon.")
    if before is not None:
        _end(where, before)
    return caller


def _before(file: logins.LoginFile, where: str) -> Login | KeptSession | None:
    """Return the sign-in that another takes the place of; None for one that cannot be read."""
    file.check()
    try:
        return file.read(where)
    except ValueError:
        return None


def _by_code(option: SignInOption, show: Callable[[str], object]) -> Login:
    """Return what the identity provider gives once a code is entered."""
    device = option.device
    assert device is not None
    program = Program(device.issuer, device.client_id, " ".join(device.scopes))
    code = grants.device_code(program)
    there = f"\nor open {code.address_with_code}" if code.address_with_code else ""
    show(
        printable(
            f"Open {code.address} in a browser and enter the code {code.user_code}{there}\n"
            "Enter no code that somebody else gave you."
            f" This one is good for {code.expires_in_s / 60:.0f} min."
        )
    )
    return logins.made(program, grants.entered(program, code), option.name)


def _by_password(where: str, user: str, ask: Callable[[str], str]) -> KeptSession:
    """Return a session that is made by a password."""
    settings.load(where, _Once(user, "-"))  # in clear text nothing is asked for
    secret = ask(f"Password of {printable(user)} at {where}: ")
    if not secret:
        raise ValueError("the password must not be empty")
    name = f"{platform.node()}, daskgateway login of process {os.getpid()}"[:100]
    with Gateway(where, auth=_Once(user, secret)) as gateway:
        request = pb.CreateSessionRequest(display_name=name)
        made = gateway.connection.call(api.CREATE_SESSION, request)
    now, lasts_s = time.time(), made.session.lasts.seconds
    return KeptSession(made.secret, made.session.way, now + lasts_s * RENEW_AT, now + lasts_s)


def logout(address: str | None = None) -> bool:
    """Forget the sign-in at a gateway, and have it and the identity provider forget it too; return
    whether there was one.

    :param address: the gateway's; by default as Dask's configuration says.
    """
    where = settings.load(address, settings.Auth()).address
    gone = logins.LoginFile().forget(where)
    if gone is not None and not _end(where, gone):
        errors.warn(
            f"the sign-in at {where} is forgotten here, and was not taken back there: it may hold"
            " until it ends by itself"
        )
    return gone is not None


def _end(where: str, kept: Login | KeptSession) -> bool:
    """Have a sign-in taken back; return whether it holds no more."""
    if isinstance(kept, Login):
        grants.forgotten(kept.program, kept.grant.refresh_token)
        return True
    try:
        with Gateway(where, auth=StoredSession(where, kept)) as gateway:
            gateway.connection.call(api.END_SESSION, pb.EndSessionRequest())
    except errors.AuthenticationFailed:  # it was over
        return True
    except errors.GatewayError:
        return False
    return True


def _chosen(options: list[SignInOption], way: str, by_password: bool) -> SignInOption:
    """Return by what one signs in; ValueError if there is nothing, or too much."""
    named = [one for one in options if way in ("", one.name)]
    codes = [one for one in named if one.device is not None and not by_password]
    passwords = [one for one in named if one.device is None and one.client_way == "basic"]
    if len(codes) > 1:
        raise ValueError(f"which way? there are {', '.join(one.name for one in codes)}")
    if found := codes or passwords:  # a password is shown to all who take one
        return found[0]
    there = ", ".join(one.name for one in options)
    raise ValueError(
        f"{'the way ' + repr(way) if way else 'this gateway'} lets nobody sign in by a code or a"
        f" password; there are {there}"
    )
