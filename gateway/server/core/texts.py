"""How words of others (a machine room's, a user's process's) become text that every database and
every message takes."""

from __future__ import annotations

CUT = "[…]"  # stands for what was left out


def is_sound(text: str) -> bool:
    """Whether a text can be stored, sent, and handed to a process: whole characters, none of them
    NUL."""
    try:
        return "\0" not in text and bool(text.isascii() or text.encode() is not None)
    except UnicodeEncodeError:
        return False


def abridged(text: str, most: int) -> str:
    """Return at most so many characters of a text: of a longer one how it begins and how it ends,
    which is where logs say what happened."""
    if len(text) <= most:
        return sound(text, most)
    head = most // 4
    return sound(f"{text[:head]} {CUT} {text[len(text) - (most - head - len(CUT) - 2) :]}", most)


def sound(text: str, most: int) -> str:
    """Return at most so many characters of a text; half a character, as a name that is no UTF-8
    leaves behind, becomes `?`."""
    cut = text[:most]
    return cut if cut.isascii() else cut.encode(errors="replace").decode()
