"""Makes the private directories that server and edge ask for: volumes are their group's, too."""

import os
import pathlib
import sys


def main(volume: str, token: str = "") -> None:
    """Make `state` below a volume, 0700, and what is in it nobody else's; the token goes there."""
    state = pathlib.Path(volume, "state")
    state.mkdir(mode=0o700, exist_ok=True)
    for place in (state, *state.rglob("*")):
        if not place.is_symlink() and place.stat().st_mode & 0o077:
            place.chmod(place.stat().st_mode & 0o700)
    if token:
        kept, new = state / "edge.token", state / "edge.token.new"
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pathlib.Path(token).read_bytes())
        new.replace(kept)


main(*sys.argv[1:])
