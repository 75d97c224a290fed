"""By which certificates a gateway's own is verified: those of a named file, else the system's, over
gRPC and HTTP alike."""

from __future__ import annotations

import os
import pathlib
import re
import ssl

PEM = re.compile(
    rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.S
)
GRPC_ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"  # gRPC's own variable for the same


def ca_file(named: str | os.PathLike[str], what: str) -> str:
    """Return the path of a CA bundle, `~` resolved; ValueError if there are no certificates."""
    path = os.path.expanduser(os.fspath(named))
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        wrong = "has no certificate in it; it must be a PEM file"
    except OSError as error:
        wrong = f"cannot be read: {error.strerror or error}"
    else:
        return path
    raise ValueError(f"{what}: the file {path} {wrong}")


def roots(named: str | None) -> bytes | None:
    """Return what gRPC is to verify by, as PEM; None for what gRPC itself brings, where the system
    has no certificates or gRPC's own variable names some.

    gRPC does not look at the system's certificates, where institutions put their own authority.
    """
    if named:
        return pathlib.Path(named).read_bytes()
    if os.environ.get(GRPC_ROOTS):
        return None
    return system_roots()


def system_roots() -> bytes | None:
    """Return the certificates that OpenSSL trusts here, as PEM; None if there are none.
    `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as everywhere."""
    places = ssl.get_default_verify_paths()
    files = [pathlib.Path(places.cafile)] if places.cafile else []
    if places.capath:
        files += sorted(pathlib.Path(places.capath).iterdir())
    found: dict[bytes, None] = {}  # each once: a directory has them one by one and as a bundle
    for file in files:
        try:
            text = file.read_bytes()
        except OSError:  # a directory, or a dangling link
            continue
        found.update(dict.fromkeys(PEM.findall(text)))
    return b"\n".join(found) + b"\n" if found else None
