"""How words of others (a machine room's, a user's process's) become text that every database and every message takes."""

from __future__ import annotations


def is_sound(text: str) -> bool:
    """Whether a text can be stored, sent, and handed to a process: whole characters, none of them NUL."""
    try:
        return "\0" not in text and bool(text.isascii() or text.encode() is not None)
    except UnicodeEncodeError:
        return False


def sound(text: str, most: int) -> str:
    """Return at most so many characters of a text; half a character, as a name that is no UTF-8 leaves behind, becomes `?`."""
    cut = text[:most]
    return cut if cut.isascii() else cut.encode(errors="replace").decode()
