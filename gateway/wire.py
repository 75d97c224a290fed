"""What client, edge, server and agent must spell alike: addresses, server names, header names,
ticket and token formats.

Knows nothing of gRPC, sockets or cryptography: it builds and takes apart text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

# what pip installs; the packages are `gateway` and `daskgateway`, so is the command
DISTRIBUTION = "dask-gateway-grpc"
SCHEME = "dgw"
SNI_SUFFIX = ".daskgateway"
ERROR_DOMAIN = "daskgateway"
TOKEN_PREFIX = "dgw"
DEFAULT_PORT = 8000

# metadata key and HTTP header: `Bearer <token>` or `Basic <base64 of user:password>`
AUTHORIZATION = "authorization"
# in place of a scheme: what a caller has shown in TLS. No header can name it, as it holds a blank
CLIENT_CERTIFICATE = "client certificate"
# the one call of the public API that needs no credentials
SIGN_IN_OPTIONS = "/daskgateway.v1.CredentialService/GetSignInOptions"
# and the one that tells who shows none by what one may sign in: in its refusal
CREATE_SESSION = "/daskgateway.v1.CredentialService/CreateSession"
# trailing metadata, and the header: what to sign in by, and the server's half of a Negotiate
AUTHENTICATE = "www-authenticate"
CORRELATION_ID = "x-correlation-id"  # trailing metadata: what the server's log calls this call
REPLAYED = "x-idempotent-replay"  # trailing metadata: "1" when a remembered effect was answered

DASHBOARD_PATH = "/clusters/"  # the edge serves a cluster's dashboard below /clusters/{uid}/
TUNNEL_PATH = "/tunnel/"  # and carries a scheduler's bytes in a WebSocket at /tunnel/{uid}
TUNNEL_PROTOCOL = "daskgateway-tunnel"  # the WebSocket's subprotocol
TICKET_QUERY = "ticket"
LOGIN_PATH = "/login"  # and signs browsers in below it, where alone they show LOGIN_COOKIE
LOGIN_COOKIE = "daskgateway_login"  # the edge's: that a browser is signed in, by a session's token
SECURE_LOGIN_COOKIE = f"__Secure-{LOGIN_COOKIE}"
# the edge's too: what a login that is begun brings back
BEGUN_COOKIE = "daskgateway_begun"
SECURE_BEGUN_COOKIE = f"__Secure-{BEGUN_COOKIE}"
SESSION_COOKIE = "daskgateway_session"  # the edge's: it lets in again without credentials
# the same over https: browsers take one of this name over nothing else
SECURE_SESSION_COOKIE = f"__Secure-{SESSION_COOKIE}"
SESSION_COOKIES = (SESSION_COOKIE, SECURE_SESSION_COOKIE)
# none of them is shown to a dashboard, nor set by one
OWN_COOKIES = (
    *SESSION_COOKIES,
    LOGIN_COOKIE,
    SECURE_LOGIN_COOKIE,
    BEGUN_COOKIE,
    SECURE_BEGUN_COOKIE,
)
MAX_TICKET_BYTES = 1024
MAX_REQUEST_BYTES = 256 * 1024  # of one request of a user, as protobuf
AUTHORITY_NAME = "daskgateway server authority"  # subject of the server's own authority
# name in the certificate that it signs, by which agents and distant edges verify the server
LISTENER_NAME = "server.daskgateway"

# calls that are open at a time on one HTTP/2 connection: server and edge tell clients so
MAX_STREAMS = 200
# begins the name of an edge's end of a connection that it relays, on the server's own socket
RELAYED = "daskgateway-edge/"
# metadata key: for which address the edge makes a call itself; believed beside EDGE_TOKEN
EDGE_CALLER = "dgw-caller"
EDGE_TOKEN = "dgw-edge-token"  # metadata key: the edge's token, on calls that it makes for others

# What a scheduler's agent and the workers find in their environment.
ENV_UID = "DASKGATEWAY_UID"
# `https://host:port` of the server's listener, or `unix:/path`
ENV_AGENT_ADDRESS = "DASKGATEWAY_AGENT_ADDRESS"
ENV_AGENT_TOKEN_FILE = "DASKGATEWAY_AGENT_TOKEN_FILE"
# CA bundle for https, the only one that is believed
ENV_AGENT_CA_FILE = "DASKGATEWAY_AGENT_CA_FILE"
# name in the server's certificate; unset for that in the address
ENV_AGENT_SERVER_NAME = "DASKGATEWAY_AGENT_SERVER_NAME"
# more packages whose versions the agent tells, with commas between
ENV_PACKAGES = "DASKGATEWAY_PACKAGES"
# set for a scheduler whose workers run without a nanny
ENV_WITHOUT_NANNY = "DASKGATEWAY_WITHOUT_NANNY"

# begins what a scheduler's agent says in its log of why it does not reach the server, which looks
# for it there
AGENT_SAYS = "daskgateway agent: "

# Names and HTTP statuses of gRPC's codes in Connect's protocol (connectrpc.com/docs/protocol).
CONNECT_CODES: Mapping[str, tuple[str, int]] = {
    "CANCELLED": ("canceled", 499),
    "UNKNOWN": ("unknown", 500),
    "INVALID_ARGUMENT": ("invalid_argument", 400),
    "DEADLINE_EXCEEDED": ("deadline_exceeded", 504),
    "NOT_FOUND": ("not_found", 404),
    "ALREADY_EXISTS": ("already_exists", 409),
    "PERMISSION_DENIED": ("permission_denied", 403),
    "RESOURCE_EXHAUSTED": ("resource_exhausted", 429),
    "FAILED_PRECONDITION": ("failed_precondition", 400),
    "ABORTED": ("aborted", 409),
    "OUT_OF_RANGE": ("out_of_range", 400),
    "UNIMPLEMENTED": ("unimplemented", 501),
    "INTERNAL": ("internal", 500),
    "UNAVAILABLE": ("unavailable", 503),
    "DATA_LOSS": ("data_loss", 500),
    "UNAUTHENTICATED": ("unauthenticated", 401),
}

USER_MARK_LETTERS = 8
_USER_MARK = re.compile(r"[a-z2-7]{8}")
_UID = re.compile(r"c[a-z2-7]{20}")
# a worker's: its group, a hyphen and a number
_INSTANCE = re.compile(r"scheduler|[a-z][a-z0-9-]{0,31}-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class SchedulerAddress:
    """A scheduler as users address it: `dgw://host:port/uid`, or `dgw://host:port/prefix/uid` where
    the edge is below a prefix."""

    host: str
    port: int
    uid: str
    prefix: str = ""  # such as /services/daskgateway: of HTTP alone, which a tunnel goes over

    def __str__(self) -> str:
        return f"{SCHEME}://{host_port(self.host, self.port)}{self.prefix}/{self.uid}"


def split_host_port(text: str) -> tuple[str, int] | None:
    """Return host and port of `host:port` or `[host]:port`, None if it is neither. The host may be
    empty, and the port 0, as where it is to be chosen."""
    host, colon, digits = text.rpartition(":")
    port = decimal(digits)
    if not colon or port is None or port > 65535:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return None if "[" in host or "]" in host else (host, port)


def host_port(host: str, port: int) -> str:
    """Return `host:port`, or `[host]:port` for an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_scheduler_address(text: str) -> SchedulerAddress:
    """Return the parts of `dgw://host:port/uid`; ValueError says what is wrong."""
    parts = urlsplit(text if "://" in text else f"{SCHEME}://{text}")
    prefix, _, uid = parts.path.rstrip("/").rpartition("/")
    if parts.scheme != SCHEME or not parts.hostname or not _UID.fullmatch(uid):
        raise ValueError(f"not a scheduler's address: {text!r}; it looks like dgw://host:port/uid")
    return SchedulerAddress(parts.hostname, parts.port or DEFAULT_PORT, uid, prefix)


def callback_path(way: str) -> str:
    """Return the path that browsers come back to from a login page, below the gateway's address."""
    return f"{LOGIN_PATH}/{quote(way, safe='')}/callback"


def is_uid(text: str) -> bool:
    """Whether the text has the form of a cluster's uid."""
    return _UID.fullmatch(text) is not None


def is_instance_name(text: str) -> bool:
    """Whether the text is how a scheduler or a worker is called: as such it is safe in paths, and
    spelt in one way only."""
    return _INSTANCE.fullmatch(text) is not None


def decimal(text: str, digits: int = 18) -> int | None:
    """Return the number that ASCII digits write, None for anything else: `isdigit` takes `²` too,
    and `int` no 5,000 digits."""
    return int(text) if len(text) <= digits and text.isascii() and text.isdigit() else None


def server_name(uid: str) -> str:
    """Return the SNI that routes to a cluster's scheduler, which is also the DNS name in its
    certificate."""
    return uid + SNI_SUFFIX


def uid_of_server_name(name: str) -> str | None:
    """Return the uid in an SNI, None if the name is not that of a cluster."""
    lowered = name.lower()
    uid = lowered.removesuffix(SNI_SUFFIX)
    return uid if uid != lowered and is_uid(uid) else None


def user_mark(user: str) -> str:
    """Return what begins the ids of a user's tokens, so that the edge knows, once the server
    has accepted them, that they are one caller's. It is no secret and proves nothing."""
    digest = hashlib.blake2b(user.encode(errors="replace"), digest_size=5).digest()
    return base64.b32encode(digest).decode().lower()


def marked_user(token: str) -> str:
    """Return the mark of the user that a token says it belongs to; empty if it says none."""
    kind, _, rest = token.removeprefix(f"{TOKEN_PREFIX}_").partition("_")
    mark = rest[:USER_MARK_LETTERS]
    return mark if kind in ("api", "session") and _USER_MARK.fullmatch(mark) else ""


def relayed_peer(mark: str, host: str, port: int) -> str:
    """Return the abstract name (unix(7)) of an edge's end of a connection that it relays for who
    calls from there."""
    return f"\0{RELAYED}{mark}/{host.partition('%')[0]}/{port}"


def caller_of_peer(peer: str) -> tuple[str, int] | None:
    """Return for whom an edge relays, host and port, out of what gRPC tells of a peer; None if it
    relays for nobody."""
    name = peer.removeprefix(f"unix-abstract:{RELAYED}")
    _, _, caller = name.partition("/")
    host, _, port = caller.rpartition("/")
    number = decimal(port, 5)
    return (host, number) if name != peer and host and number is not None else None


@dataclass(frozen=True, slots=True)
class Ticket:
    """Permission to see one cluster's dashboard: `base64url(JSON) . base64url(Ed25519 signature of
    the first part)`.

    It opens once. What it opens rests on what its user had shown, and ends with that.
    """

    uid: str
    user: str
    expires_at: int  # ms since the epoch
    id: str = ""  # by which it is known that it was used
    token_id: str = ""  # of the API token that was shown; empty for who signed in
    stamp: str = ""  # what the sign-in was checked by, as the authenticator marks it
    # whether the sign-in was an admin's; counts where the authenticator cannot be asked
    admin: bool = False
    holds_until: int = 0  # what was shown expires then, in ms since the epoch; 0: it does not


def ticket_payload(ticket: Ticket) -> bytes:
    """Return the bytes that are signed, which are the ticket's first part."""
    contents: dict[str, str | int] = {
        "c": ticket.uid,
        "u": ticket.user,
        "e": ticket.expires_at,
        "n": ticket.id,
    }
    contents |= {
        "t": ticket.token_id,
        "s": ticket.stamp,
        "a": int(ticket.admin),
        "h": ticket.holds_until,
    }
    body = json.dumps(contents, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(body.encode()).rstrip(b"=")


def join_ticket(payload: bytes, signature: bytes) -> str:
    """Return the ticket as it travels."""
    return f"{payload.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def split_ticket(text: str) -> tuple[bytes, bytes, Ticket] | None:
    """Return payload, signature and contents of a ticket, None if it is malformed. The signature is
    not checked here."""
    if len(text) > MAX_TICKET_BYTES or not text.isascii():
        return None
    payload, _, signature = text.partition(".")
    try:
        contents = json.loads(_unpadded(payload))
        ticket = Ticket(
            str(contents["c"]),
            str(contents["u"]),
            int(contents["e"]),
            str(contents["n"]),
            str(contents["t"]),
            str(contents["s"]),
            bool(contents["a"]),
            int(contents["h"]),
        )
        return payload.encode(), _unpadded(signature), ticket
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # 1e999 is JSON
        return None


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def basic_credentials(user: str, password: str) -> str:
    """Return the value of an authorization header for a user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def parse_basic(value: str) -> tuple[str, str] | None:
    """Return user and password of a Basic authorization value, None if it is malformed."""
    kind, _, encoded = value.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, colon, password = (
            base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        )
    except ValueError:  # no base64, not even ASCII, or no UTF-8 within
        return None
    return (user, password) if colon else None
