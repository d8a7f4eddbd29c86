"""Events that come twice: dropped where a handler or several transports ask for it."""

import logging
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.errors import Reject
from gemstone_sync.event.deduplication import Claim, MemoryProcessedEvents
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.runtime import claims
from gemstone_sync.event.runtime.attempts import deduplication_key
from gemstone_sync.event.runtime.claims import Renewals, claim_key
from gemstone_sync.event.topology import Address
from tests.support.waiting import LIMIT, wait_until

from ..processing import Desk, Got, Memory, delivered, event, handler

NOT_TODAY = OSError("not today")


def once(function: Any, **options: Any) -> Any:
    return handler(function, idempotent=False, **options)


def key_of(desk: Desk, envelope: Envelope) -> str:
    return claim_key(envelope, desk.subscriber, desk.subscriber.handlers[0], False)


def again_soon(desk: Desk) -> bool:
    """Tell whether the event was put back, for a moment, with no attempt counted."""
    ((envelope, address, delay),) = desk.published
    return (
        address == Address("", desk.queue().name, mandatory=True)
        and 1 <= delay <= 2
        and (envelope.attempts, envelope.handler) == (0, "on_event")
    )


class Held(Got):
    """A handler that holds its event until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.go = Event(), Event()

    def __call__(self, body: Any) -> None:
        super().__call__(body)
        self.started.set()
        assert self.go.wait(LIMIT)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that claims wait, each time: a moment here."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        gevent.sleep(0.001)

    monkeypatch.setattr(claims, "gevent", SimpleNamespace(sleep=sleep, spawn=gevent.spawn))
    return waited


@pytest.mark.parametrize(
    ("options", "kind", "instances", "names", "count"),
    [
        ({}, "service", ("i1", "i1"), ("a", "a"), 1),
        ({}, "service", ("i1", "i2"), ("a", "a"), 1),
        ({"scope": "instance"}, "instance", ("i1", "i2", "i2"), ("a", "a", "a"), 2),
        ({}, "work", ("i1", "i1"), ("Shop.pack", "Store.pack"), 1),
        ({}, "service", ("i1", "i1"), ("a", "b"), 2),
        ({"idempotent": True}, "service", ("i1", "i1"), ("a", "a"), 2),
    ],
    ids=["again", "instance", "each instance", "another's work", "another handler", "idempotent"],
)
def test_an_event_that_comes_again_is_dropped_for_those_who_share_it(
    options: dict[str, Any], kind: str, instances: Any, names: Any, count: int
):
    got, memory = Got(), Memory()
    sent = event(broadcast=kind != "work")
    for instance, name in zip(instances, names, strict=True):
        own = handler(got, name=name, **{"idempotent": False, **options})
        desk = Desk(own, instance=instance, processed=memory)
        assert desk.deliver(sent, kind)
        assert desk.published == []
    assert got == [1] * count
    assert desk.deliver(event(broadcast=kind != "work"), kind)
    assert got == [1] * (count + 1)
    assert bool(memory.calls) is ("idempotent" not in options)


def test_an_event_is_remembered_under_its_key_before_it_is_acknowledged_once_it_is_handled():
    memory, seen, sent = Memory(), Got(), event()
    act = once(lambda body: seen((list(memory.calls), deduplication_key())))
    desk = delivered(sent, act, processed=memory)
    assert seen == [(["claim"], f"{sent.id}:shop:on_event")]
    assert key_of(desk, sent) == f"{sent.id}:shop:on_event"
    assert (memory.calls, memory.leases) == (["claim", "done"], {60.0})


@pytest.mark.parametrize("error", [NOT_TODAY, Reject("no")], ids=["failed", "rejected"])
def test_an_event_that_failed_is_tried_again_and_a_dead_letter_can_be_replayed(error: Exception):
    got, sent = Got(error, times=1), event()
    desk = delivered(sent, once(got), processed=Memory(), recent=Memory())
    ((again, _, _),) = desk.published
    assert bool(again.dead) == isinstance(error, Reject)
    assert desk.deliver(again.with_changes(dead=None))
    assert desk.deliver(sent)
    assert got == [1, 1]


def test_a_claim_that_cannot_be_given_back_does_not_lose_the_event():
    desk = delivered(event(), once(Got(NOT_TODAY)), processed=Memory("release"))
    assert desk.published[0][0].attempts == 1


def test_an_event_that_another_worker_handles_comes_again_in_a_moment():
    got, memory = Got(), Memory()
    desk = Desk(once(got), processed=memory)
    sent = event()
    assert memory.claim(key_of(desk, sent), "another", LIMIT) is Claim.OURS
    assert desk.deliver(sent)
    assert got == []
    assert again_soon(desk)
    delays = [desk.deliver_again() for _ in range(200)]
    assert 1 <= min(delays) < 1.1
    assert 1.9 < max(delays) <= 2
    memory.release(key_of(desk, sent), "another")
    desk.deliver_again()
    assert got == [1]


def test_an_event_that_comes_again_to_its_own_worker_does_not_run_beside_itself():
    got = Held()
    desk = Desk(once(got), processed=Memory())
    sent = event()
    first = gevent.spawn(desk.deliver, sent)
    assert got.started.wait(LIMIT)
    assert desk.deliver(sent)
    assert again_soon(desk)
    got.go.set()
    assert first.get(timeout=LIMIT)
    assert got == [1]


def test_where_order_must_hold_it_waits_in_its_place_for_the_other_worker(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("gemstone_sync.event.runtime.processing._SOON", (0.01, 0.02))
    got, memory = Got(), Memory()
    desk = Desk(once(got), processed=memory)
    sent = event(key="k")
    memory.claim(key_of(desk, sent), "another", LIMIT)
    running = gevent.spawn(desk.deliver, sent, "keyed")
    wait_until(lambda: len(memory.calls) >= 4, "three questions")
    assert got == []
    memory.done(key_of(desk, sent), "another")
    assert running.get(timeout=LIMIT)
    assert (got, desk.published) == ([], [])


def test_a_claim_is_renewed_each_third_of_its_lease_while_the_handler_runs_and_no_longer(
    pauses: list[float], caplog: pytest.LogCaptureFixture
):
    memory = Memory("renew")

    def act(body: Any) -> None:
        for away in (set(), {"renew"}):
            renewed = memory.calls.count("renew")
            wait_until(lambda: memory.calls.count("renew") >= renewed + 3, "renewals")  # noqa: B023
            memory.away = away

    desk = Desk(once(act), processed=memory, lease=10.0)
    for _ in range(2):
        assert desk.deliver(event())
        renewed = memory.calls.count("renew")
        gevent.sleep(0.02)
        assert memory.calls.count("renew") == renewed
    assert desk.published == []
    assert (set(pauses), memory.leases) == ({10.0 / 3}, {10.0})
    assert "the memory of handled events fails: OSError: connection refused" in caplog.text


def test_claims_that_end_while_others_are_renewed_keep_none_from_it(pauses: list[float]):
    keys, renewed = set("abcdefghij"), []

    class Store(MemoryProcessedEvents):
        def renew(self, key: str, owner: str, lease: float) -> None:
            for ended in sorted(keys - {key})[:5] if not renewed else []:
                keys.remove(ended)
                renewals.remove(ended, owner)
            renewed.append((len(pauses), key))

    renewals = Renewals(Store(), 60)
    for key in keys:
        renewals.add(key, "me")
    wait_until(lambda: len(pauses) >= 2, "renewals")
    assert sorted(key for turn, key in renewed if turn == 1) == sorted(keys)
    for key in keys:
        renewals.remove(key, "me")


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "runs"])
def test_an_attempt_that_is_cut_off_gives_its_claims_back_at_once_while_it(asks: bool):
    got, sent, memory, recent = Held(), event(), Memory(), Memory()
    desk, claim = Desk(once(got), processed=memory, recent=recent), memory.claim
    if asks:  # the answer is on its way
        memory.claim = lambda *question: claim(*question) and got(None)
    running = gevent.spawn(desk.deliver, sent)
    assert got.started.wait(LIMIT)
    running.kill(timeout=LIMIT)
    assert running.value is False
    for take in (claim, recent.claim):
        assert take(key_of(desk, sent), "another", LIMIT) is Claim.OURS


def test_while_the_memory_is_away_nothing_runs_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "gemstone_sync.event")
    got, memory = Got(), Memory("claim")
    desk = delivered(event(), once(got), processed=memory, recent=Memory())
    assert got == []
    assert again_soon(desk)
    assert "connection refused" in caplog.text
    desk.deliver_again()
    memory.away.clear()
    desk.deliver_again()
    assert (got, desk.published) == ([1], [])
    assert desk.deliver(event())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_mark_that_cannot_be_written_at_first_is_written_later(
    pauses: list[float], caplog: pytest.LogCaptureFixture
):
    got, memory, sent = Got(), Memory("done"), event()
    desk = Desk(once(got), processed=memory)
    gevent.spawn(memory.away.clear)  # runs in the first pause
    assert desk.deliver(sent)
    assert desk.deliver(sent)
    assert got == [1]
    memory.away.add("done")
    assert desk.deliver(event())
    assert [seconds for seconds in pauses if seconds != 20.0] == [0.2, 0.2, 1.0]
    assert "a repetition is handled again" in caplog.text


def test_what_comes_over_two_transports_at_once_is_handled_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemstone_sync.event.runtime.processing._LOOK", 0.001)
    recent, got = Memory(), Held()
    first, second = (Desk(handler(got), recent=recent) for _ in range(2))
    sent = event()
    running = [gevent.spawn(first.deliver, sent)]
    assert got.started.wait(LIMIT)
    running.append(gevent.spawn(second.deliver, sent))
    wait_until(lambda: recent.calls.count("claim") >= 4, "the second one asks")
    got.go.set()
    assert [greenlet.get(timeout=LIMIT) for greenlet in running] == [True, True]
    assert (got, first.published, second.published) == ([1], [], [])
    assert recent.leases == {86400.0}  # longer than any handler runs


@pytest.mark.parametrize("failures", [0, 1])
def test_what_comes_over_two_transports_is_handled_once_also_when_it_failed(failures: int):
    recent, got = Memory(), Got(NOT_TODAY, times=failures)
    first, second = (Desk(handler(got), recent=recent) for _ in range(2))
    sent = event()
    assert first.deliver(sent)
    assert second.deliver(sent)
    assert (len(first.published), second.published) == (failures, [])
    if failures:
        first.deliver_again()
    assert got == [1] * (1 + failures)


def test_with_both_memories_the_shared_one_decides():
    got, shared, recent = Got(), Memory(), Memory()
    desk = Desk(once(got), processed=shared, recent=recent)
    sent = event()
    shared.claim(key_of(desk, sent), "another", LIMIT)
    assert desk.deliver(sent)
    assert again_soon(desk)
    assert recent.claim(key_of(desk, sent), "me", 1) is Claim.OURS
    recent.release(key_of(desk, sent), "me")
    shared.done(key_of(desk, sent), "another")
    desk.deliver_again()
    assert got == []
    assert recent.claim(key_of(desk, sent), "me", 1) is Claim.DONE


@pytest.mark.parametrize("id", ["i" * 5000, "\udcff", "é", "a b\n"])
def test_whatever_the_id_its_key_is_short_and_plain(id: str):
    desk = Desk(once(print))
    key = key_of(desk, event(id=id))
    assert len(key) <= 200
    assert key.isascii()
    assert key != key_of(desk, event(id=id + "x"))


def test_a_key_of_200_characters_is_kept():
    desk, rest = Desk(once(print)), ":shop:on_event"
    id = "i" * (200 - len(rest))
    assert key_of(desk, event(id=id)) == id + rest
    assert len(key_of(desk, event(id=id + "i"))) == 64
