"""What a running call knows, and how it reaches its greenlets and the services that it calls."""

import contextvars
import time

import gevent
import pytest

from gemstone_sync.concurrency import (
    Call,
    current_call,
    outgoing_headers,
    spawn,
    travelling_id,
)


def in_call(call):
    def run():
        current_call.set(call)
        return outgoing_headers()

    return contextvars.copy_context().run(run)


def test_outside_a_call_there_is_nothing_to_hand_on():
    assert current_call.get() is None
    assert outgoing_headers() == {}


def test_every_call_hands_on_an_id_and_one_hop_more():
    assert in_call(Call(hops=0, request_id="r")) == {"X-Request-Id": "r", "X-Gemstone-Hops": "1"}
    assert in_call(Call(hops=7, request_id="r"))["X-Gemstone-Hops"] == "8"


def test_a_request_id_is_made_up_once():
    call = Call()

    assert in_call(call)["X-Request-Id"] == in_call(call)["X-Request-Id"] == call.request_id
    assert Call().request_id != call.request_id


@pytest.mark.parametrize(
    "text", ["", "é" * 128, "a\x85b", "a\x9b31mb", "a\nb", "a\x00", "\x7f", "\u2028", "\ud800"]
)
def test_an_id_that_could_not_travel_on_is_none(text):
    assert travelling_id(text) is None


def test_an_id_that_travels_is_bounded():
    assert travelling_id("a b~" * 99) == ("a b~" * 99)[:128]


def test_the_trace_context_is_handed_on_as_it_came():
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    assert in_call(Call(traceparent=trace))["traceparent"] == trace
    assert "traceparent" not in in_call(Call())


def test_the_deadline_is_handed_on_as_milliseconds_left():
    left = int(in_call(Call(deadline=time.monotonic() + 100))["X-Gemstone-Deadline"])

    assert 50_000 < left <= 100_000
    assert in_call(Call(deadline=time.monotonic() - 5))["X-Gemstone-Deadline"] == "0"
    assert "X-Gemstone-Deadline" not in in_call(Call())


def test_seconds_left_are_never_below_zero():
    assert Call().seconds_left() is None
    assert Call(time.monotonic() - 1).seconds_left() == 0.0


COLOR = contextvars.ContextVar("COLOR", default="none")


def test_spawn_keeps_the_context_and_a_plain_spawn_loses_it():
    def run():
        COLOR.set("red")
        spawn(COLOR.set, "blue").get()  # stays its own
        return COLOR.get(), spawn(COLOR.get).get(), gevent.spawn(COLOR.get).get()

    assert contextvars.copy_context().run(run) == ("red", "red", "none")


def test_spawn_passes_arguments_and_gives_back_result_or_error():
    assert spawn(lambda a, *, b: a + b, 1, b=2).get() == 3
    failed = spawn(int, "x")
    failed.join()
    assert isinstance(failed.exception, ValueError)
