"""What an HTTP/2 client may not send: floods wait or end the connection."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    WINDOW_UPDATE,
    Abuse,
    frame,
)
from gateway.proxy.http2.guard import Guard
from tests.proxy.by_hand import GREETING, body, call, head, opening
from tests.proxy.guarded import FLOODS, NOW, guard, passed


def ending(made: Guard, sent: bytes) -> Abuse:
    """Return why the connection ends."""
    with pytest.raises(Abuse) as caught:
        passed(made, sent)
    return caught.value


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
