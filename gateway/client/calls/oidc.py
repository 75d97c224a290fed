"""Programs that call by an OpenID provider, which knows them by a secret of their own."""

from __future__ import annotations

from gateway.client.calls import logins, reading
from gateway.client.calls.auths import Auth
from gateway.client.calls.grants import Program


class OIDCAuth(Auth):
    """A program that an OpenID provider knows, by client credentials (RFC 6749, 4.4)."""

    def __init__(
        self, issuer: str, client_id: str, client_secret: str, scope: str = "openid"
    ) -> None:
        """Take what the provider calls the program, and its secret.

        :param issuer: the provider's issuer, such as `https://login.example.org/realms/main`.
        :param client_id: what the program is called there.
        :param client_secret: its secret.
        :param scope: what is asked for, with blanks between.
        """
        self._program = Program(
            reading.text(issuer, "issuer"),
            reading.text(client_id, "client_id"),
            reading.text(scope, "scope"),
            reading.text(client_secret, "client_secret").rstrip("\r\n"),
        )
        if not self._program.client_secret:
            raise ValueError("client_secret: must not be empty")
        self._tokens = logins.of_program(self._program)

    def header(self) -> str:
        """Return the header's value; the provider is asked when the last token is about to end."""
        return f"Bearer {self._tokens.token()}"

    def __repr__(self) -> str:
        return f"OIDCAuth({self._program.issuer!r}, {self._program.client_id!r})"
