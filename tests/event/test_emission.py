"""What can be emitted, and what is said to those who try something else."""

import datetime
import math
import time

import pytest

from gemstone_sync.concurrency import Call, current_call
from gemstone_sync.event.emission import make_envelope, make_envelopes


def test_the_body_travels_as_json():
    envelope = make_envelope("x", {"b": [1, None, "ü"], "a": 1.5}, emitter="me")
    assert envelope.body == '{"b":[1,null,"ü"],"a":1.5}'.encode()
    assert (envelope.name, envelope.emitter, envelope.broadcast) == ("x", "me", True)
    assert make_envelope("x", 1).id != make_envelope("x", 1).id


def test_names_bodies_and_moments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="not both"):
        make_envelope("x", 1, delay=1, at=time.time() + 5)
    with pytest.raises(ValueError, match="invalid event name"):
        make_envelope("a.*", 1)
    with pytest.raises(TypeError, match=r"the body of 'x': .*object.* cannot be represented"):
        make_envelope("x", object())
    with pytest.raises(ValueError, match="has 12 bytes, more than 10"):
        make_envelope("x", "0123456789", max_size=10)
    make_envelope("x", "01234567", max_size=10)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("delay", [-1, "5", True, math.nan, math.inf]),
        ("at", [datetime.datetime(2030, 1, 1), "tomorrow", math.nan, math.inf]),
        ("expires_in", [-1, "1"]),
        ("key", ["", 5, "k" * 256]),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{option}\b"):
            make_envelope("x", 1, **{option: value})


def test_when_it_is_due_is_a_moment():
    now = time.time()
    assert make_envelope("x", 1).due is None
    assert make_envelope("x", 1, delay=0).due is None
    delayed = make_envelope("x", 1, delay=5).due
    assert delayed is not None
    assert now + 4.99 <= delayed <= time.time() + 5.01
    assert make_envelope("x", 1, at=now + 9).due == pytest.approx(now + 9, abs=0.5)
    moment = datetime.datetime.fromtimestamp(now + 7, tz=datetime.timezone.utc)
    assert make_envelope("x", 1, at=moment).due == pytest.approx(now + 7, abs=0.5)
    assert make_envelope("x", 1, at=now - 100).due is None
    before = time.time()
    deadline = make_envelope("x", 1, expires_in=3).deadline
    assert deadline is not None
    assert before + 2.99 <= deadline <= time.time() + 3.01


def test_the_calls_ids_go_along_and_its_deadline_does_not():
    call = Call(deadline=time.monotonic() + 1, request_id="r1", traceparent="t1")
    token = current_call.set(call)
    try:
        envelope = make_envelope("x", 1)
    finally:
        current_call.reset(token)
    assert (envelope.request_id, envelope.traceparent) == ("r1", "t1")
    assert envelope.deadline is None
    assert make_envelope("x", 1).request_id is None


def test_several_are_made_of_pairs_and_triples():
    first, second = make_envelopes([("a", 1), ("b", 2, {"key": "k"})], emitter="me")
    assert (first.name, first.key, first.emitter) == ("a", None, "me")
    assert (second.name, second.key) == ("b", "k")


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("x", r"\(name, body\)"),
        (("x",), r"\(name, body\)"),
        (("x", 1, 2), "options of an event"),
        (("x", 1, {"dealy": 1}), "options of an event are .*delay"),
    ],
)
def test_an_entry_that_is_no_event_is_refused(entry, match):
    with pytest.raises(ValueError, match=match):
        make_envelopes([entry])
