"""What a container does before its program: it opens its launch, which is sealed, and makes the
directory of its own.

A launch (words, environment, secret files) reaches a container in its environment, for that is all
that can be given to one container of a service. NodeManagers copy environments into logs, so it is
sealed with a key that every container of an application has as a file. This file goes to the
containers by itself: standard library only, any Python from 3.8 on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shlex
import sys
import tempfile
import zlib
from collections.abc import Mapping

VARIABLE = "DASKGATEWAY_SEALED_"  # and a number: a launch in pieces
KEY_FILE = ".daskgateway-key"
RUN_FILE = ".daskgateway-run"
PIECE_BYTES = 100_000  # one variable can have 128 KiB (execve(2): MAX_ARG_STRLEN)
NONCE_BYTES, TAG_BYTES = 16, 32
DIRECTORY = "{directory}"


def seal(key: bytes, content: Mapping[str, object]) -> dict[str, str]:
    """Return a launch as variables of an environment."""
    plain = zlib.compress(json.dumps(content).encode())
    nonce = os.urandom(NONCE_BYTES)
    covered = nonce + _masked(key, nonce, plain)
    tag = hmac.new(_derived(key, b"tag"), covered, hashlib.sha256).digest()
    text = base64.b64encode(covered + tag).decode()
    pieces = [text[at : at + PIECE_BYTES] for at in range(0, len(text), PIECE_BYTES)]
    return {f"{VARIABLE}{number}": piece for number, piece in enumerate(pieces)}


def unseal(key: bytes, environment: Mapping[str, str]) -> dict[str, object]:
    """Return the launch that an environment holds; ValueError if it was not sealed with this
    key."""
    pieces: list[str] = []
    while (name := f"{VARIABLE}{len(pieces)}") in environment:
        pieces.append(environment[name])
    whole = base64.b64decode("".join(pieces), validate=True)
    covered, tag = whole[:-TAG_BYTES], whole[-TAG_BYTES:]
    expected = hmac.new(_derived(key, b"tag"), covered, hashlib.sha256).digest()
    if not hmac.compare_digest(tag, expected):
        raise ValueError("the launch is not sealed with the key of this application")
    nonce = covered[:NONCE_BYTES]
    content = json.loads(zlib.decompress(_masked(key, nonce, covered[NONCE_BYTES:])))
    if not isinstance(content, dict):
        raise ValueError("the launch is no object")
    return content


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, purpose, hashlib.sha256).digest()


def _masked(key: bytes, nonce: bytes, text: bytes) -> bytes:
    """Counter mode over HMAC-SHA256, which is its own inverse."""
    masking = _derived(key, b"mask")
    stream = b"".join(
        hmac.new(masking, nonce + number.to_bytes(8, "big"), hashlib.sha256).digest()
        for number in range(-(-len(text) // 32))
    )[: len(text)]
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")


def make_ready() -> None:
    """Make the directory with the files, and the shell file that becomes the program."""
    os.umask(0o077)
    with open(KEY_FILE, "rb") as file:
        content = unseal(file.read(), os.environ)
    directory = tempfile.mkdtemp(prefix="daskgateway-", dir=os.getcwd())
    files, environment, words = content["files"], content["env"], content["argv"]
    assert isinstance(files, dict)
    assert isinstance(environment, dict)
    assert isinstance(words, list)
    for name, text in files.items():
        with open(os.path.join(directory, os.path.basename(name)), "xb") as file:
            file.write(base64.b64decode(text))
    lines = [
        *(f"unset {name}" for name in os.environ if name.startswith(VARIABLE)),
        *(
            f"export {name}={shlex.quote(value.replace(DIRECTORY, directory))}"
            for name, value in environment.items()
            if name.isidentifier()
        ),
        "exec " + " ".join(shlex.quote(word.replace(DIRECTORY, directory)) for word in words),
    ]
    with open(RUN_FILE, "x", encoding="utf-8", errors="surrogateescape") as script:
        script.write("\n".join(lines) + "\n")
    print(directory)


if __name__ == "__main__":
    try:
        make_ready()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"the launch cannot be opened: {error}")
