"""What an HTTP/2 client may send, judged: whole calls pass untouched, in whatever pieces."""

from __future__ import annotations

import random
import struct

from gateway.proxy.http2.answers import Answers
from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    frame,
    settings,
)
from gateway.proxy.http2.guard import Guard
from tests.proxy.by_hand import GREETING, body, call, head, message, opening
from tests.proxy.guarded import NOW, OWN_ACK, guard, passed

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
