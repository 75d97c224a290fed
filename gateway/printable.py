"""Text of others as it may be shown on a terminal: nothing in it moves the cursor, sets a title, or
turns the line about.

A user's process chooses names, versions, labels, messages and every byte of its log; an
administrator's terminal acts on some of them. What it would act on is shown as an escape, such as
`\\x1b`, so that it is seen and means nothing. Colours, of which logs are full, are left out. Used
where text goes to people; files, pipes and JSON get it as it is.
"""

from __future__ import annotations

import re
import unicodedata

_COLOURS = re.compile(r"(?:\x1b\[|\x9b)[0-9;:]{0,64}m")
# What turns the direction of writing: a name may look like another by it. Marks that only hint at
# it are part of some languages.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# control characters, halves of characters, separators of lines and paragraphs
_TELLING = ("Cc", "Cs", "Zl", "Zp")
QUOTED = 80  # characters of a wrong value that a refusal repeats


def printable(text: str, *, keep: str = "\n\t") -> str:
    """Return a text that a terminal only prints. `keep` names control characters that stay; CRLF is
    one line's end, CR alone too."""
    if text.isprintable():
        return text
    if "\n" in keep:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(_shown(one, keep) for one in _COLOURS.sub("", text))


def quoted(value: object, most: int = QUOTED) -> str:
    """Return a value as a refusal repeats it: in quotes where it is a text, on one line, and at
    most so many characters of it, whatever was given."""
    cut = value[: most + 1] if isinstance(value, str | bytes) else value
    try:
        text = " ".join(repr(cut).split())
    except Exception:  # such as a __repr__ of the user's own that fails, or a recursion
        text = f"a {type(value).__name__}"
    return brief(text, most)


def brief(text: str, most: int = QUOTED) -> str:
    """Return at most so many characters of a text, such as a name in a sentence."""
    return text if len(text) <= most else text[: max(0, most - 3)] + "..."


def _shown(one: str, keep: str) -> str:
    if one in keep or not (one in _TURNING or unicodedata.category(one) in _TELLING):
        return one
    code = ord(one)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(one) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
