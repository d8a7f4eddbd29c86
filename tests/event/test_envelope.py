"""Envelopes survive their way through a message, and nothing in a message is trusted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.event.envelope import DeadLetter, Envelope, from_message, to_message

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)
moments = st.integers(0, 10**13).map(lambda milliseconds: milliseconds / 1000)
hexadecimal = st.text("0123456789abcdef", min_size=16, max_size=16)
letters = st.builds(
    DeadLetter,
    reason=text,
    error=st.text(st.characters(exclude_categories=["Cs"])),
    traceback=st.just("") | text,
    queue=text,
    time=moments,
)
envelopes = st.builds(
    Envelope,
    name=text,
    body=st.binary(max_size=50),
    id=text,
    time=moments,
    broadcast=st.booleans(),
    key=st.none() | text,
    emitter=st.none() | text,
    request_id=st.none() | ids,
    traceparent=st.none() | hexadecimal.map(lambda part: f"00-{part}{part}-{part}-01"),
    tracestate=st.none() | ids,
    baggage=st.none() | ids,
    deadline=st.none() | moments,
    attempts=st.integers(0, 1000),
    handler=st.none() | text,
    queue=st.none() | text,
    due=st.none() | moments,
    dead=st.none() | letters,
)


@given(envelopes)
def test_an_envelope_survives_a_message(envelope: Envelope):
    properties, headers = to_message(envelope)
    # As a broker with JSON headers hands them on.
    headers = json.loads(json.dumps(headers))
    read = from_message(envelope.body, properties, headers, "another.key")
    for field in ("time", "deadline", "due"):
        sent, got = getattr(envelope, field), getattr(read, field)
        assert (sent is None) == (got is None)
        if sent is not None:
            assert got == pytest.approx(sent, abs=0.0011)  # whole milliseconds
            read = read.with_changes(**{field: sent})
    assert read == envelope


@given(envelopes)
def test_an_envelope_survives_an_outbox(envelope: Envelope):
    assert Envelope.from_json(envelope.to_json()) == envelope


@pytest.mark.parametrize("text", [b"", b"{}", b'{"name": 1, "body": ""}', b"\xff", b"[]"])
def test_what_is_no_envelope_is_refused(text: bytes):
    with pytest.raises(ValueError, match=r".+"):
        Envelope.from_json(text)


@pytest.mark.parametrize(
    "forged",
    [
        {"name": ""},
        {"id": ""},
        {"attempts": -1},
        {"attempts": 10**30},
        {"time": -1},
        {"time": 1e300},
        {"due": 1e300},
        {"deadline": -1},
        {"request_id": "a\n"},
        {"traceparent": "a\r\nX-Forged: 1"},
        {"tracestate": "a\u20ac"},
        {"baggage": "a\x1b"},
        {"dead": {"reason": "failed", "time": 1e300}},
    ],
    ids=str,
)
def test_what_no_emitter_writes_is_refused(forged: dict[str, Any]):
    text = json.dumps({"name": "paid", "body": "MQ==", **forged})
    with pytest.raises(ValueError, match=r".+"):
        Envelope.from_json(text)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
anything = plain | st.lists(plain, max_size=2) | st.dictionaries(st.text(), plain, max_size=2)
fields = ["time", "work", "key", "attempts", "handler", "queue", "deadline", "due", "dead"]
travelling = ["traceparent", "tracestate", "baggage"]
known = st.sampled_from([*travelling, *(f"x-gemstone-{field}" for field in fields)])
properties_known = st.sampled_from(["message_id", "type", "app_id", "correlation_id", "timestamp"])


@given(
    st.binary() | st.text(),
    st.dictionaries(properties_known, anything),
    st.dictionaries(known, anything | st.just(10**400)),
)
def test_whatever_a_message_says_it_is_read_and_can_be_sent_on(
    body: Any, properties: dict[str, Any], headers: dict[str, Any]
):
    envelope = from_message(body, properties, headers, "order.paid")
    assert envelope.name
    assert envelope.id
    assert envelope.attempts >= 0
    assert isinstance(envelope.body, bytes)
    sent_on = to_message(envelope)
    for fields in sent_on:
        for value in fields.values():
            assert not isinstance(value, int) or 0 <= value < 2**63


def test_a_message_of_another_program_is_an_event_with_an_id_and_a_time():
    first, second = (from_message(b'{"a": 1}', {}, {}, "order.paid") for _ in range(2))
    assert (first.name, first.body, first.broadcast) == ("order.paid", b'{"a": 1}', True)
    assert first.id != second.id
    assert first.time > 1.6e9
    assert from_message(b"", {}, {"traceparent": "00-x"}, "a").traceparent is None
    assert from_message(b"", {"correlation_id": "a\x85b"}, {}, "a").request_id is None
    deep = '{"reason": "failed", "more": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert from_message(b"", {}, {"x-gemstone-dead": deep}, "a").dead is None


def test_standard_properties_mean_what_they_mean_elsewhere():
    envelope = Envelope(name="a", body=b"1", id="i", time=12.5, emitter="shop", request_id="r")
    properties, _ = to_message(envelope)
    assert properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "message_id": "i",
        "type": "a",
        "timestamp": 12,
        "app_id": "shop",
        "correlation_id": "r",
    }


def test_an_envelope_cannot_be_changed():
    with pytest.raises(AttributeError):
        Envelope(name="a", body=b"").name = "b"  # type: ignore[misc]
