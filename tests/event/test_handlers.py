"""What a handler promises is checked when it is made."""

from math import nan
from typing import Any

import pytest

from gemstone_sync.event.handlers import Handler, Subscriber, delay_before


def make(**options: Any) -> Handler:
    return Handler(**{"pattern": "a", "function": print, "name": "h", **options})


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("pattern", ["a b"], "invalid event name"),
        ("scope", ["all"], "scope is 'service' or 'instance'"),
        ("retries", [-1, 1.5, True], "retries is a whole number"),
        ("concurrency", [0, "3"], "concurrency is a whole number above 0"),
        ("timeout", [0, -1.0, True, nan], "a timeout is a number of seconds above 0"),
        ("idempotent", [None, 1], "idempotent is True or False"),
        ("backoff", [-1, [], [1, -1], "1", None, nan], "backoff is a number of seconds"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_its_name(
    option: str, values: list[Any], message: str
):
    for value in values:
        with pytest.raises(ValueError, match=message):
            make(**{option: value})


def test_the_defaults_are_the_documented_ones_and_a_retry_waits_an_hour_at_most():
    handler = make()
    assert delay_before(handler, 10**9) == 3600
    assert (handler.scope, handler.retries, handler.timeout) == ("service", 5, None)
    assert (handler.concurrency, handler.idempotent) == (None, True)


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (1, [1, 2, 4, 8, 16]),
        (0.5, [0.5, 1, 2]),
        (0, [0, 0, 0]),
        (3000, [3000, 3600, 3600]),
        ((1, 5, 2), [1, 5, 2, 2, 2]),
        (lambda failures: failures * 10, [10, 20, 30]),
        (lambda failures: -1, [0, 0]),
    ],
)
def test_how_long_a_retry_waits(backoff: Any, delays: list[float]):
    handler = make(backoff=backoff)
    assert [delay_before(handler, n + 1) for n in range(len(delays))] == delays


def test_a_subscriber_knows_its_handlers_for_an_event():
    first = make(pattern="a.*", name="first")
    second = make(pattern="#", name="second", scope="instance")
    subscriber = Subscriber(service="s", instance="i", handlers=(first, second))
    assert subscriber.handlers_for("a.b") == [first, second]
    assert subscriber.handlers_for("b") == [second]
    assert subscriber.handlers_for("a.b", scope="service") == [first]
