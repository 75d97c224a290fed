"""Whatever a text holds, a terminal only prints it; and what is harmless stays as it is."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.printable import printable

SEQUENCES = {
    "cursor": "\x1b[2J\x1b[1;1H",
    "title": "\x1b]0;owned\x07",
    "title with ST": "\x1b]0;owned\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\text\x1b]8;;\x1b\\",
    "device control": '\x1bP$q"p\x1b\\',
    "answerback": "\x05",
    "8-bit CSI": "\x9b2J",
    "8-bit OSC": "\x9d0;owned\x9c",
    "charset": "\x1b(0\x0e",
    "reset": "\x1bc",
    "bell": "\x07\x07",
    "backspace": "rm -rf /\x08\x08\x08ls",
    "overwritten line": "evil\rgood",
    "DEL": "a\x7fb",
    "bidi": "user\u202egnp.exe",
    "isolate": "a\u2066b\u2069",
    "half a character": "\udc9b2J",
    "separator": "a\u2028b",
    "unfinished": "\x1b",
    "unfinished OSC": "\x1b]0;" + "x" * 10_000,
    "colour": "\x1b[31mred\x1b[0m",
    "endless colour": "\x1b[" + "1;" * 10_000 + "m",
}
ACTED_ON = {chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))} - {"\n", "\t"}


def harmless(text: str) -> bool:
    """Whether a terminal does nothing but print it."""
    turning = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
    return not (ACTED_ON | turning) & set(text) and not any(
        0xD800 <= ord(one) < 0xE000 for one in text
    )


@pytest.mark.parametrize("name", SEQUENCES)
def test_what_a_terminal_acts_on_is_shown_instead(name: str) -> None:
    shown = printable(f"before {SEQUENCES[name]} after")
    assert harmless(shown)
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    shown.encode()


@given(st.text(st.characters()))
def test_no_text_is_acted_on(text: str) -> None:
    for keep in ("\n\t", ""):
        shown = printable(text, keep=keep)
        assert harmless(shown)
        assert keep or not set("\n\t") & set(shown)
        assert printable(shown, keep=keep) == shown


@pytest.mark.parametrize(
    "text", ["plain", "zwei Zeilen\n\tüber — 日本 🙂", "می‌خواهم", "ש\u200fלום", "a\xa0b", ""]
)
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


def test_lines_stay_lines_and_colours_go() -> None:
    assert printable("10%\r20%\r\ndone\n") == "10%\n20%\ndone\n"
    assert printable("\x1b[1;31mERROR\x1b[0m: no") == "ERROR: no"
    assert printable("a\nb\tc\rd", keep="") == "a\\nb\\tc\\rd"


def test_a_line_of_the_servers_log_stays_one_line_that_does_nothing() -> None:
    from gateway.__main__ import PrintableFormatter

    formatter = PrintableFormatter("%(levelname).1s %(name)s %(message)s")
    forged = "no\n2026-11-27 W gateway.server.app forged"
    record = logging.LogRecord(
        "gateway", logging.WARNING, "", 0, "refused: %s %s", (forged, SEQUENCES["title"]), None
    )
    said = formatter.format(record)
    assert harmless(said)
    assert (
        said == "W gateway refused: no\\n2026-11-27 W gateway.server.app forged \\x1b]0;owned\\x07"
    )
    try:
        raise ValueError(SEQUENCES["cursor"])
    except ValueError as error:
        record = logging.LogRecord(
            "gateway", logging.ERROR, "", 0, "failed", (), (ValueError, error, error.__traceback__)
        )
    said = formatter.format(record)
    assert harmless(said)
    assert "Traceback (most recent call last):\n" in said


@pytest.mark.parametrize("created", [0.0, 1_700_000_000.9996, 1_700_000_001.0, 4_000_000_000.25])
def test_the_time_of_a_line_is_that_which_logging_itself_would_tell(created: float) -> None:
    from gateway.__main__ import PrintableFormatter

    ours = PrintableFormatter("%(asctime)s")
    record = logging.LogRecord("n", logging.INFO, "", 0, "words", None, None)
    for later in (0.0, 0.0004, 0.5, 1.0, 1.5, -3600.0):
        record.created = max(0.0, created + later)
        record.msecs = int((record.created - int(record.created)) * 1000) + 0.0
        assert ours.format(record) == logging.Formatter("%(asctime)s").format(record)
