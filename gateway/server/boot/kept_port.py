"""Which port the listener had, as one run leaves it to the next. It is taken up again only where
any free port will do."""

from __future__ import annotations

import logging
import pathlib

from gateway.files import read_kept, write_kept
from gateway.wire import decimal

logger = logging.getLogger(__name__)


def kept_port(path: pathlib.Path) -> int:
    """Return the port that a file holds, 0 if it holds none."""
    try:
        content = read_kept(path)
    except OSError as error:
        logger.warning("%s cannot be read: %s", path, error.strerror or error)
        return 0
    port = decimal((content or b"").decode(errors="replace").strip())
    return port if port is not None and port < 65536 else 0


def keep_port(path: pathlib.Path, port: int) -> None:
    """Keep it for the next run. Where that cannot be, this run serves all the same."""
    try:
        write_kept(path, str(port).encode())
    except OSError as error:
        logger.error(
            "%s cannot be written (%s): clusters may not find the next server",
            path,
            error.strerror or error,
        )
