"""What an HTTP/2 client may send, judged: whole calls pass untouched, in whatever pieces; floods
wait or end the connection."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from gateway.proxy.http2.answers import Answers
from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Abuse,
    frame,
    settings,
)
from gateway.proxy.http2.guard import Guard
from tests.proxy.by_hand import GREETING, body, call, head, message, opening

NOW = 1000.0
OWN_ACK = frame(SETTINGS, ACK, 0)


def guard(bounds: Bounds | None = None, *, settled: bool = True) -> Guard:
    """Return a guard that was greeted, and has a server behind it."""
    made = Guard(bounds or Bounds(), NOW)
    made.receive(GREETING + OWN_ACK)
    assert made.run(NOW) is None
    if settled:
        made.settle(web=False) if made.waiting else None
        made.alone = False
    return made


def passed(made: Guard, *pieces: bytes, now: float = NOW) -> bytes:
    """Return what passes, when everybody has a turn at once."""
    out = b""
    for piece in pieces:
        made.receive(piece)
        while True:
            rest_s = made.run(now)
            while made.waiting:
                made.pass_on()
            out += made.take()
            if rest_s is None:
                break
            now += rest_s
    return out


def ending(made: Guard, sent: bytes) -> Abuse:
    """Return why the connection ends."""
    with pytest.raises(Abuse) as caught:
        passed(made, sent)
    return caught.value


# What passes


def test_a_call_passes_untouched_and_the_edges_own_greeting_is_not_answered_for_it() -> None:
    sent = [
        call(1) + call(3),
        frame(PING, 0, 0, b"12345678") + frame(RST_STREAM, 0, 3, struct.pack(">I", 8)),
    ]
    assert passed(guard(), *sent) == GREETING + b"".join(sent)


def test_in_whatever_pieces_it_comes_the_same_passes() -> None:
    block = head(more=[("x", "y" * 3000)])
    sent = (
        frame(HEADERS, 0, 1, block[:1000])
        + frame(CONTINUATION, 0, 1, block[1000:2000])
        + frame(CONTINUATION, END_HEADERS, 1, block[2000:])
        + body(1, message(5000)[:3000], ends=False)
        + frame(DATA, END_STREAM | PADDED, 1, b"\x05" + message(5000)[3000:] + bytes(5))
        + call(3)
    )
    whole = passed(guard(), sent)
    assert whole == GREETING + sent
    for seed in range(200):
        dice = random.Random(seed)
        pieces, at = [], 0
        while at < len(sent):
            step = dice.choice([1, 2, 9, 10, 100, 4000])
            pieces.append(sent[at : at + step])
            at += step
        assert passed(guard(), *pieces) == whole


def test_what_nobody_understands_is_dropped() -> None:
    noise = frame(0x42, 0, 7, b"what") + frame(PRIORITY, 0, 1, bytes(5))
    assert passed(guard(), noise + call(1) + noise) == GREETING + call(1)


def test_a_block_is_passed_on_whole_or_not_at_all() -> None:
    made = guard()
    start = frame(HEADERS, 0, 1, head())
    assert passed(made, start) == GREETING
    assert made.block_since == NOW
    assert passed(made, frame(CONTINUATION, END_HEADERS, 1)) == start + frame(
        CONTINUATION, END_HEADERS, 1
    )
    assert made.block_since == 0.0


def test_the_first_request_decides_and_nothing_goes_on_before() -> None:
    made = guard(settled=False)
    made.receive(call(1) + call(3))
    assert made.run(NOW) is None
    assert made.unsettled
    first = made.next()
    assert first.head is not None
    assert (first.head.kind, first.head.path) == (
        "application/grpc",
        "/daskgateway.v1.ClusterService/ListClusters",
    )
    assert made.take() == GREETING
    made.settle(web=False)
    assert passed(made, b"") == call(1) + call(3)


def test_pings_before_there_is_a_server_are_the_edges_to_answer() -> None:
    made = guard(settled=False)
    made.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"12345678"))
    made.run(NOW)
    assert made.pongs == [b"12345678"]
    assert made.take() == GREETING


def test_for_pages_everything_passes_as_it_comes() -> None:
    made = Guard(Bounds(), NOW)
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, head())
    sent = (
        opening(1, head("/", kind="text/html"))
        + body(1, b"no message of gRPC", ends=False)
        + trailers
    )
    made.receive(GREETING + OWN_ACK + sent)
    made.run(NOW)
    made.settle(web=True)
    # the acknowledgement that came first was of the edge's own settings
    assert passed(made, b"") == GREETING + sent
    assert passed(made, OWN_ACK) == OWN_ACK
    assert not made.requests


# Turns


def test_a_request_waits_for_its_turn_and_what_others_send_does_not() -> None:
    made = guard()
    assert passed(made, opening(1)) == GREETING + opening(1)
    made.receive(opening(3) + body(1) + body(3) + opening(5))
    made.run(NOW)
    assert made.take() == body(1)
    assert [request.stream for request in made.waiting] == [3, 5]
    assert made.pass_on().stream == 3
    assert made.take() == opening(3) + body(3)
    made.receive(body(5))
    made.run(NOW)
    assert made.take() == b""
    made.pass_on()
    assert made.take() == opening(5) + body(5)
    assert made.held_bytes == 0


def test_so_much_is_held_and_then_nothing_more_is_read() -> None:
    made = guard(Bounds(held_bytes=10_000))
    made.receive(
        b"".join(opening(stream, head(more=[("x", "y" * 900)])) for stream in range(1, 101, 2))
    )
    assert made.run(NOW) is None
    assert made.full
    assert made.held_bytes < 12_000
    assert made.unread_bytes > 30_000
    while made.waiting:
        made.pass_on()
    made.run(NOW)
    assert made.held_bytes > 0


def test_a_request_that_is_reset_while_it_waits_passes_with_its_end() -> None:
    made = guard()
    reset = frame(RST_STREAM, 0, 1, struct.pack(">I", 8))
    made.receive(opening(1) + reset + call(3))
    made.run(NOW)
    assert made.pass_on().reset
    assert made.take() == GREETING + opening(1) + reset
    assert list(made.requests) == [3]


# Messages


def test_a_request_is_incomplete_until_a_message_is_whole() -> None:
    made = guard()
    passed(made, opening(1))
    request = made.requests[1]
    assert (request.incomplete, request.since) == (True, NOW)
    passed(made, body(1, message(100)[:50], ends=False))
    assert (request.incomplete, made.unsent_bytes) == (True, 50)
    passed(made, body(1, message(100)[50:], ends=False))
    assert (request.incomplete, request.since, made.unsent_bytes) == (False, 0.0, 0)
    passed(made, body(1, message(100)[:3], ends=False), now=NOW + 5)
    assert (request.incomplete, request.since) == (True, NOW + 5)
    passed(made, frame(DATA, END_STREAM, 1))
    assert (request.incomplete, request.since, made.unsent_bytes) == (False, 0.0, 0)


def test_answers_are_followed_in_whatever_pieces_they_come() -> None:
    answer = (
        settings({})
        + frame(HEADERS, END_HEADERS, 1, b"\x88")
        + frame(DATA, 0, 1, message(3000)[:2000])
        + frame(DATA, 0, 1, message(3000)[2000:])
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")
        + frame(RST_STREAM, 0, 3, struct.pack(">I", 0))
    )
    for step in (1, 7, 10, 5000):
        made = guard()
        passed(made, call(1) + opening(3))
        answers = Answers(made)
        first, third = made.requests[1], made.requests[3]
        moved = []
        for at in range(0, len(answer), step):
            answers.receive(answer[at : at + step], NOW + 1)
            moved += answers.moved
            answers.moved.clear()
        assert moved == [first, first, third]  # its message, its end
        assert first.answer.whole == 1
        assert not first.untaken
        assert not made.requests
        assert answers.between


def test_an_answer_that_nobody_takes_shows() -> None:
    made = guard()
    passed(made, call(1))
    request = made.requests[1]
    answers = Answers(made)
    answers.receive(
        frame(HEADERS, END_HEADERS, 1, b"\x88") + frame(DATA, 0, 1, message(100)[:10])[:14], NOW + 2
    )
    assert request.untaken
    assert request.answered_at == NOW + 2
    assert not answers.between


# What ends a connection

FLOODS: dict[str, tuple[bytes, int]] = {
    "no preface": (b"", 0),
    "pings": (frame(PING, 0, 0, bytes(8)) * 1000, ENHANCE_YOUR_CALM),
    "acknowledgements": (frame(PING, ACK, 0, bytes(8)) * 1000, ENHANCE_YOUR_CALM),
    "settings": (settings({4: 65535}) * 1000, ENHANCE_YOUR_CALM),
    "acknowledged settings": (frame(SETTINGS, ACK, 0) * 1000, ENHANCE_YOUR_CALM),
    "priorities": (frame(PRIORITY, 0, 1, bytes(5)) * 1000, ENHANCE_YOUR_CALM),
    "unknown": (frame(0x55, 0, 0, b"x") * 1000, ENHANCE_YOUR_CALM),
    "goaways": (frame(GOAWAY, 0, 0, bytes(8)) * 1000, ENHANCE_YOUR_CALM),
    "empty": (opening(1) + frame(DATA, 0, 1) * 1000, ENHANCE_YOUR_CALM),
    "padding alone": (
        opening(1) + frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 1000,
        ENHANCE_YOUR_CALM,
    ),
    "resets": (
        b"".join(opening(n) + frame(RST_STREAM, 0, n, bytes(4)) for n in range(1, 4001, 2)),
        ENHANCE_YOUR_CALM,
    ),
    "streams": (b"".join(opening(n) for n in range(1, 4001, 2)), ENHANCE_YOUR_CALM),
    "heads of what is over": (call(1) + opening(1, ends=True), PROTOCOL_ERROR),
    "continuations": (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1, b"") * 1000,
        ENHANCE_YOUR_CALM,
    ),
    "large continuations": (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1, bytes(16000)) * 1000,
        ENHANCE_YOUR_CALM,
    ),
    "a large head": (opening(1, head(more=[("x", "y" * 4000)] * 4)), -1),
    "a message without end": (
        opening(1)
        + body(1, message(2**31 - 1)[:0] + b"\0\x7f\xff\xff\xff" + bytes(9_000_000), ends=False),
        -1,
    ),
    "a large frame": (frame(HEADERS, END_HEADERS, 1, bytes(16_385)), FRAME_SIZE_ERROR),
    "a huge frame of DATA": (
        opening(1) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        FRAME_SIZE_ERROR,
    ),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    "an even stream": (opening(2), PROTOCOL_ERROR),
    "an older stream": (opening(5) + opening(3), -1),
    "DATA on nothing": (body(1), PROTOCOL_ERROR),
    "DATA on no stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA after the end": (call(1) + body(1), PROTOCOL_ERROR),
    "padding too long": (opening(1) + frame(DATA, PADDED, 1, b"\x09abc"), PROTOCOL_ERROR),
    "padding of a head too long": (
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff\x88"),
        PROTOCOL_ERROR,
    ),
    "padding of nothing": (frame(HEADERS, END_HEADERS | PADDED, 1), PROTOCOL_ERROR),
    "an interrupted head": (
        frame(HEADERS, 0, 1, head()) + frame(PING, 0, 0, bytes(8)),
        PROTOCOL_ERROR,
    ),
    "another's continuation": (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 3),
        PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1), PROTOCOL_ERROR),
    "a reset of nothing": (frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "a short reset": (opening(1) + frame(RST_STREAM, 0, 1, bytes(3)), PROTOCOL_ERROR),
    "a short ping": (frame(PING, 0, 0, bytes(7)), PROTOCOL_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "settings that are no pairs": (frame(SETTINGS, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "a window on nothing": (frame(WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "a second head": (opening(1) + opening(1), PROTOCOL_ERROR),
    "a head that HPACK does not know": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff"), -1),
}
FLOODS.pop("no preface")


@pytest.mark.parametrize("what", FLOODS)
def test_what_nobody_needs_to_send_ends_the_connection(what: str) -> None:
    sent, code = FLOODS[what]
    if what == "an older stream":  # it may be over: so many of them and no more
        sent = opening(5) + opening(3) * 1000
    abuse = ending(guard(Bounds(block_bytes=10_000)), sent)
    assert code in (-1, abuse.code)
    assert str(abuse)


def test_a_head_without_end_is_held_within_bounds() -> None:
    made = guard()
    made.receive(frame(HEADERS, 0, 1, head()))
    for _ in range(7):
        made.receive(frame(CONTINUATION, 0, 1, bytes(4000)))
        made.run(NOW)
        assert made.take() in (b"", GREETING)
    assert "too large" in str(ending(made, frame(CONTINUATION, 0, 1, bytes(9000))))
    assert made.take() == b""


def test_heads_that_unpack_to_much_more_are_refused() -> None:
    import hpack

    encoder = hpack.Encoder()
    # the same field a thousand times, a byte each
    block = encoder.encode([(b"x", b"y" * 3000)]) + b"\xbe" * 1000
    assert "cannot be read" in str(ending(guard(), opening(1, block)))


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        PREFACE + opening(1),
        PREFACE + frame(PING, 0, 0, bytes(8)),
    ],
)
def test_who_does_not_greet_is_not_heard(first: bytes) -> None:
    made = Guard(Bounds(), NOW)
    made.receive(first)
    if first:
        with pytest.raises(Abuse):
            made.run(NOW)
    else:
        assert made.run(NOW) is None


def test_much_said_and_nothing_asked_ends_it() -> None:
    made = guard(settled=False)
    assert "nothing asked" in str(ending(made, frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 1000))


@pytest.mark.parametrize(
    "small", [frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), frame(DATA, 0, 1, b"x")]
)
def test_of_what_calls_are_made_of_more_than_can_be_borne_waits(small: bytes) -> None:
    made = guard(Bounds(frames=(100.0, 50.0)))
    made.receive(opening(1) + small * 80)
    made.run(NOW)
    made.pass_on()
    waited_s, now = 0.0, NOW
    while (rest_s := made.run(now)) is not None:
        waited_s, now = waited_s + rest_s, now + rest_s + 1e-6
    assert waited_s == pytest.approx(0.3, abs=0.05)
    assert made.take().endswith(small)


def test_of_pages_a_few_are_begun_at_a_turn_and_so_many_a_second() -> None:
    made = guard(Bounds(pages=(10.0, 40.0)), settled=False)
    made.receive(b"".join(opening(n, head(kind="text/html"), ends=True) for n in range(1, 401, 2)))
    assert made.run(NOW) is None
    made.settle(web=True)
    assert made.run(NOW) == 0.0
    assert 0 < made.last_stream // 2 <= 10
    rests = [made.run(NOW) for _ in range(40)]
    assert rests[-1] == pytest.approx(0.1)
    assert made.last_stream // 2 == 40
    rests = [made.run(NOW + 1.0) for _ in range(10)]
    assert rests[-1] == pytest.approx(0.1)
    assert made.last_stream // 2 == 50


def test_a_client_that_wants_nothing_more_still_gets_its_pages() -> None:
    made = guard(settled=False)
    made.receive(opening(1, head(kind="text/html"), ends=True))
    made.run(NOW)
    made.settle(web=True)
    made.take()
    made.receive(frame(GOAWAY, 0, 0, bytes(8)))
    assert made.run(NOW) is None
    assert made.take() == b""


def test_who_sends_small_frames_faster_than_they_are_borne_for_long_is_ended() -> None:
    made = guard(Bounds(frames=(100.0, 50.0)))
    passed(made, opening(1))
    assert "small frames" in str(ending(made, frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 2000))
    made, now = guard(Bounds(frames=(100.0, 50.0))), NOW
    passed(made, opening(1))
    for _ in range(50):  # as much as comes at a time, again and again
        try:
            made.receive(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 60)
            while (rest_s := made.run(now)) is not None:
                now += rest_s
        except Abuse:
            return
    raise AssertionError("it goes on for ever")


def test_a_turn_of_judging_ends_although_there_is_more() -> None:
    made = guard(Bounds(frames=(1e9, 1e9)))
    passed(made, opening(1))
    made.receive(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 5000)
    assert made.run(NOW) == 0.0
    assert made.unread_bytes > 4000 * 13


def _frames_of(stream: bytes) -> list[bytes]:
    found, at = [], len(PREFACE) if stream.startswith(PREFACE) else 0
    while at < len(stream):
        end = at + 9 + int.from_bytes(stream[at : at + 3], "big")
        found.append(stream[at:end])
        at = end
    return found


@pytest.mark.parametrize("block", range(20))
def test_whatever_is_sent_what_passes_is_frames_and_memory_is_bounded(block: int) -> None:
    makers: list[Callable[[random.Random], bytes]] = [
        lambda dice: opening(
            dice.randint(0, 40),
            head() if dice.random() < 0.8 else dice.randbytes(20),
            ends=dice.random() < 0.3,
        ),
        lambda dice: body(
            dice.randint(0, 40),
            dice.randbytes(dice.choice([0, 1, 5, 300])),
            ends=dice.random() < 0.3,
        ),
        lambda dice: frame(
            dice.randint(0, 12),
            dice.randint(0, 255),
            dice.randint(0, 40),
            dice.randbytes(dice.choice([0, 1, 4, 5, 6, 8, 40])),
        ),
        lambda dice: frame(HEADERS, dice.choice([0, END_STREAM]), dice.randint(0, 40), head()),
        lambda dice: frame(
            CONTINUATION,
            dice.choice([0, END_HEADERS]),
            dice.randint(0, 40),
            dice.randbytes(dice.randint(0, 50)),
        ),
        lambda dice: call(dice.randrange(1, 60, 2)),
    ]
    for seed in range(block * 100, block * 100 + 100):
        dice = random.Random(seed)
        made = Guard(Bounds(), NOW)
        sent = GREETING + b"".join(dice.choice(makers)(dice) for _ in range(dice.randint(1, 30)))
        if dice.random() < 0.5:
            at = dice.randrange(len(PREFACE), len(sent))
            sent = sent[:at] + dice.randbytes(dice.randint(1, 4)) + sent[at + dice.randint(0, 4) :]
        out = b""
        try:
            for at in range(0, len(sent), 50):
                made.receive(sent[at : at + 50])
                made.run(NOW)
                if made.unsettled:
                    made.settle(web=dice.random() < 0.3)
                elif made.waiting and dice.random() < 0.7:
                    made.pass_on()
                out += made.take()
                assert made.held_bytes == sum(
                    len(part) for request in made.waiting for part in request.held or []
                )
                assert made.unsent_bytes >= 0
        except Abuse:
            continue
        out += made.take()
        known = _frames_of(sent)
        for one in _frames_of(out)[:-1]:
            assert one in known
