"""How secrets lie in the database: sealed with keys that are kept elsewhere, and that can be
changed.

Fernet (AES-128-CBC with HMAC-SHA256, github.com/fernet/spec). The first key seals, every key opens.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Sequence
from dataclasses import asdict

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.files import write_kept
from gateway.server.security.certificates import ClusterSecrets

ENV_KEYS = "DASKGATEWAY_ENCRYPTION_KEYS"  # keys separated by spaces or `;`, the first one seals


class Keyring:
    """Seals and opens."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise ConfigurationError(
                f"{ENV_KEYS} or the key file: keys must be 32 bytes as URL-safe base64, such as"
                f" Fernet.generate_key() makes"
            ) from None

    @classmethod
    def load(cls, path: pathlib.Path) -> Keyring:
        """Return the keyring of the environment, else of a file (one key a line), which is made if
        it does not exist."""
        text = os.environ.get(ENV_KEYS, "")
        if text.strip():
            return cls(text.replace(";", " ").split())
        return cls(_kept(path).split())

    def seal_bytes(self, plain: bytes) -> bytes:
        """Return bytes sealed."""
        return self._fernet.encrypt(plain)

    def unseal_bytes(self, sealed: bytes) -> bytes:
        """Return sealed bytes opened; ConfigurationError if no key fits."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ConfigurationError(
                f"the database's secrets were sealed with another key; put that key back"
                f" (encryption.key or {ENV_KEYS})"
            ) from None

    def seal(self, secrets: ClusterSecrets) -> bytes:
        """Return a cluster's secrets sealed."""
        plain = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in asdict(secrets).items()
        }
        return self.seal_bytes(json.dumps(plain).encode())

    def unseal(self, sealed: bytes) -> ClusterSecrets:
        """Return a cluster's secrets."""
        plain = json.loads(self.unseal_bytes(sealed))
        return ClusterSecrets(
            **{
                name: value if name == "agent_token" else value.encode()
                for name, value in plain.items()
            }
        )


def _kept(path: pathlib.Path) -> str:
    if wrong := file_problem(path, secret=True):
        raise ConfigurationError(wrong)
    try:
        return path.read_text(errors="replace")  # what is no key is told as such
    except FileNotFoundError:
        return _made(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _made(path: pathlib.Path) -> str:
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    try:
        write_kept(path, f"{key}\n".encode())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    return key
