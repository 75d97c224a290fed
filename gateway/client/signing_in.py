"""Signing in by a code that is entered in a browser, from a terminal or a notebook; and out."""

from __future__ import annotations

from collections.abc import Callable

from gateway.client.calls import errors, grants, logins, settings
from gateway.client.calls.grants import Program
from gateway.client.calls.logins import StoredLogin
from gateway.client.gateway import Gateway
from gateway.client.model import Caller, SignInOption
from gateway.printable import printable


def login(
    address: str | None = None, *, way: str = "", show: Callable[[str], object] = print
) -> Caller:
    """Sign in by a code that is entered in a browser, on this machine or another; what follows is
    kept, and `Gateway(address)` uses it from then on. Return who that is.

    :param address: the gateway's; by default as Dask's configuration says.
    :param way: which of `sign_in_options`, where several let one sign in so.
    :param show: shows a text to the user.
    """
    where = settings.load(address, settings.Auth()).address
    with Gateway(where, auth=settings.Auth()) as stranger:
        option = _chosen(stranger.sign_in_options(), way)
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
    grant = grants.entered(program, code)
    file = logins.LoginFile()
    before = file.read(where)
    file.keep(where, logins.made(program, grant, option.name))
    try:
        with Gateway(where, auth=StoredLogin(where)) as known:
            caller = known.whoami()
    except errors.AuthenticationFailed:
        file.forget(where)
        if before is not None:
            file.keep(where, before)
        raise
    if not grant.refresh_token:
        show("The identity provider gave nothing to renew this sign-in by: it ends soon.")
    return caller


def logout(address: str | None = None) -> bool:
    """Forget the sign-in at a gateway, and have the provider forget it; return whether there was
    one.

    :param address: the gateway's; by default as Dask's configuration says.
    """
    where = settings.load(address, settings.Auth()).address
    gone = logins.LoginFile().forget(where)
    if gone is not None:
        grants.forgotten(gone.program, gone.grant.refresh_token)
    return gone is not None


def _chosen(options: list[SignInOption], way: str) -> SignInOption:
    """Return by what one signs in; ValueError if there is nothing, or too much."""
    found = [one for one in options if one.device is not None and way in ("", one.name)]
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(one.name for one in options)
        raise ValueError(
            f"{'the way ' + repr(way) if way else 'this gateway'} lets nobody sign in by a code;"
            f" there are {there}"
        )
    raise ValueError(f"which way? there are {', '.join(one.name for one in found)}")
