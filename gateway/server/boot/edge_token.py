"""The token by which the server knows its edge: made once, kept in a file, doubted whenever it is
read."""

from __future__ import annotations

import pathlib

from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.files import read_kept, write_kept
from gateway.server.security import tokens


def edge_token(path: pathlib.Path) -> str:
    """Return the edge's token, made and kept in a file of mode 0600 if there is none.
    ConfigurationError if it can be neither.

    A file that holds none, such as one cut short when the power went, is replaced: an empty token
    would let in whoever sends none.
    """
    try:
        kept = (read_kept(path) or b"").decode(errors="replace").strip()
        parsed = tokens.parse(kept)
        if parsed is not None and parsed[0] == "edge":
            if wrong := file_problem(path, secret=True):
                raise ConfigurationError(f"c.DaskGateway.state_dir: {wrong}")
            return kept
        text = tokens.mint("edge").text
        write_kept(path, text.encode())
    except OSError as error:
        raise ConfigurationError(
            f"c.DaskGateway.state_dir: {path}: {error.strerror or error}"
        ) from None
    return text
