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


def printable(text: str, *, keep: str = "\n\t") -> str:
    """Return a text that a terminal only prints. `keep` names control characters that stay; CRLF is
    one line's end, CR alone too."""
    if text.isprintable():
        return text
    if "\n" in keep:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(_shown(one, keep) for one in _COLOURS.sub("", text))


def _shown(one: str, keep: str) -> str:
    if one in keep or not (one in _TURNING or unicodedata.category(one) in _TELLING):
        return one
    code = ord(one)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(one) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
