"""MemoryProcessedEvents and `processed_events`: bounds, and which store a setting means."""

import pytest

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.event.deduplication import (
    Claim,
    MemoryProcessedEvents,
    RedisProcessedEvents,
    SqliteProcessedEvents,
    processed_events,
)


def test_the_oldest_is_forgotten_when_there_are_too_many_but_not_what_is_being_handled():
    store = MemoryProcessedEvents(limit=10)
    store.claim("long", "a", 60)
    for number in range(11):
        store.claim(str(number), "a", 60)
        store.done(str(number), "a")
    assert store.claim("0", "b", 60) is Claim.OURS
    assert store.claim("1", "b", 60) is Claim.DONE
    assert store.claim("long", "b", 60) is Claim.BUSY


def test_claims_that_nobody_ends_do_not_fill_the_memory():
    store = MemoryProcessedEvents()
    for number in range(1000):
        store.claim(str(number), "a", 1e-9)
    assert len(store._claims) < 3


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryProcessedEvents),
        ("redis://127.0.0.1:1", RedisProcessedEvents),
        ("rediss://127.0.0.1:1/2", RedisProcessedEvents),
        ("sqlite:///handled.any", SqliteProcessedEvents),
        ("sqlite:////var/lib/handled.db", SqliteProcessedEvents),
        ("var/handled.sqlite", SqliteProcessedEvents),
        ("handled.db", SqliteProcessedEvents),
    ],
)
def test_the_store_of_a_setting(url, kind):
    assert type(processed_events(url, window=60)) is kind


@pytest.mark.parametrize(
    "url",
    ["", "handled", "memory:", "amqp://guest:hunter2@host", "sqlite://", "sqlite:///", None, 3,
     "redis://:hunter2/3@host:1", "redis://:hunter2@host:1/x", "http://hunter2.db"],
)  # fmt: skip
def test_a_setting_that_is_none(url):
    with pytest.raises(ServiceConfigurationError) as caught:
        processed_events(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("window", [0, -1, float("inf"), float("nan"), "1", True, None])
@pytest.mark.parametrize("url", ["memory://", "handled.db", "redis://127.0.0.1:1"])
def test_a_window_that_is_none(url, window):
    with pytest.raises(ServiceConfigurationError, match="window"):
        processed_events(url, window=window)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None])
def test_a_limit_that_is_none(limit):
    with pytest.raises(ServiceConfigurationError, match="limit"):
        MemoryProcessedEvents(limit=limit)
