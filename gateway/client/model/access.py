"""Who the caller is, and what lets them in. Secrets stand in no repr: notebooks are saved and shown
around."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from daskgateway.v1 import credential_service_pb2 as pb

from gateway.client.model import show
from gateway.client.model.answer import Answer
from gateway.client.model.values import Word, instant, word


class Scope(Word):
    """What a token may do."""

    UNKNOWN = "UNKNOWN"
    """What came with a newer gateway."""
    CLUSTERS_READ = "CLUSTERS_READ"
    """Read clusters, their logs and events."""
    CLUSTERS_WRITE = "CLUSTERS_WRITE"
    """Create, change and stop clusters, and connect to them."""
    TOKENS = "TOKENS"
    """Create, list and revoke tokens."""


def _scopes(proto: pb.WhoAmIResponse | pb.Token) -> tuple[Scope, ...]:
    return tuple(word(Scope, pb.Scope, number) for number in proto.scopes)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Caller(Answer[pb.WhoAmIResponse]):
    """Who the gateway takes the caller for."""

    user: str
    """User name, as in the names of clusters."""
    admin: bool
    """Whether the user may act for every user."""
    scopes: tuple[Scope, ...]
    """What the credentials of this call may do."""
    groups: tuple[str, ...]
    """Groups the user is in."""
    expire_time: datetime | None
    """Until when the credentials of this call hold; None if no end is known."""
    way: str
    """By which of `sign_in_options` the caller signed in; empty where an API token was shown, and
    where the gateway is too old to tell."""
    source: str = ""
    """Whence the credentials of this call are, as the client found them: such as `the environment
    variable DASKGATEWAY_TOKEN`."""

    @classmethod
    def from_proto(cls, proto: pb.WhoAmIResponse, source: str = "") -> Caller:
        """Return what a message says, and `source`."""
        return cls(
            proto=proto,
            user=proto.user,
            admin=proto.admin,
            scopes=_scopes(proto),
            groups=tuple(proto.groups),
            expire_time=instant(proto, "expire_time"),
            way=proto.way,
            source=source,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Token(Answer[pb.Token]):
    """An API token, or that of a session, without its secret."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("ID", "NAME", "EXPIRES", "SCOPES", "SESSION BY")

    id: str
    """Its id, which is part of the secret too."""
    display_name: str
    """For people."""
    scopes: tuple[Scope, ...]
    """What it may do."""
    create_time: datetime | None
    """When it was made."""
    expire_time: datetime | None
    """When it ceases to be valid."""
    parent: str
    """Id of the token that it was made with, which it never outlives; empty if its user had signed
    in."""
    way: str
    """Of a session's token: by which of `sign_in_options` its user signed in. Empty for API
    tokens."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table."""
        return (
            self.id,
            show.harmless(self.display_name),
            show.when(self.expire_time),
            show.text(self.scopes),
            show.harmless(self.way),
        )

    @classmethod
    def from_proto(cls, proto: pb.Token) -> Token:
        """Return what a message says."""
        return cls(
            proto=proto,
            id=proto.id,
            display_name=proto.display_name,
            scopes=_scopes(proto),
            create_time=instant(proto, "create_time"),
            expire_time=instant(proto, "expire_time"),
            parent=proto.parent,
            way=proto.way,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NewToken(Answer[pb.CreateTokenResponse]):
    """An API token that was just made, with its secret, which the gateway never tells again."""

    token: Token
    """The token."""
    secret: str = field(repr=False)
    """What to sign in with: `Gateway(auth=secret)`. Keep it as you keep a password."""

    @classmethod
    def from_proto(cls, proto: pb.CreateTokenResponse) -> NewToken:
        """Return what a message says."""
        return cls(proto=proto, token=Token.from_proto(proto.token), secret=proto.secret)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DashboardTicket(Answer[pb.CreateDashboardTicketResponse]):
    """A short-lived permission to open one cluster's dashboard in a browser."""

    url: str = field(repr=False)
    """Address that opens the dashboard when visited before the ticket expires; whoever has it
    may."""
    expire_time: datetime | None
    """When the ticket expires. A browser session that it opened lasts longer."""

    @classmethod
    def from_proto(cls, proto: pb.CreateDashboardTicketResponse) -> DashboardTicket:
        """Return what a message says."""
        return cls(proto=proto, url=proto.url, expire_time=instant(proto, "expire_time"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceLogin(Answer[pb.DeviceLogin]):
    """How a program gets an access token for its user, who enters a code in a browser."""

    issuer: str
    """Issuer of the OpenID provider."""
    client_id: str
    """What the program calls itself there; it has no secret."""
    scopes: tuple[str, ...]
    """Scopes that it asks for."""

    @classmethod
    def from_proto(cls, proto: pb.DeviceLogin) -> DeviceLogin:
        """Return what a message says."""
        return cls(
            proto=proto,
            issuer=proto.issuer,
            client_id=proto.client_id,
            scopes=tuple(proto.scopes),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignInOption(Answer[pb.SignInOption]):
    """Something by which one may sign in."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("NAME", "TAKES", "SCHEMES", "AUTH")

    name: str
    """What the administrator calls it; `api-token` for the gateway's own API tokens."""
    description: str
    """What it takes, for people."""
    schemes: tuple[str, ...]
    """Schemes of the `authorization` header, in lower case."""
    client_way: str
    """How this client names it, as in `Gateway(auth="jupyterhub")`; empty if it has no name for
    it."""
    session: bool
    """Whether the client signs in by it once, and goes on with a session."""
    device: DeviceLogin | None
    """How one signs in by a code, with `daskgateway login`; None where one does not."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table."""
        return tuple(
            map(
                show.harmless,
                (self.name, self.description, ", ".join(self.schemes), self.client_way),
            )
        )

    @classmethod
    def from_proto(cls, proto: pb.SignInOption) -> SignInOption:
        """Return what a message says."""
        return cls(
            proto=proto,
            name=proto.name,
            description=proto.description,
            schemes=tuple(proto.schemes),
            client_way=proto.client_way,
            session=proto.session,
            device=DeviceLogin.from_proto(proto.device) if proto.HasField("device") else None,
        )
