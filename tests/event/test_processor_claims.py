"""Events that come twice: dropped where a handler or several transports ask for it."""

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.errors import Reject
from gemstone_sync.event.current import deduplication_key
from gemstone_sync.event.deduplication import Claim
from gemstone_sync.event.topology import Address
from tests.support.waiting import LIMIT, wait_until

from .processing import Desk, Memory, event, handler, key_of

LOGGER = "gemstone_sync.event"


def once(function: Any, **options: Any) -> Any:
    return handler(function, **{"idempotent": False, **options})


def again_soon(desk: Desk) -> bool:
    """Whether the event was put back, for a moment, with no attempt counted."""
    ((envelope, address, delay),) = desk.published
    queue = desk.queue().name
    return (
        address == Address("", queue, mandatory=True)
        and 1 <= delay <= 2
        and (envelope.attempts, envelope.handler) == (0, "on_event")
    )


def test_an_event_that_comes_again_is_dropped():
    got: list[Any] = []
    memory = Memory()
    desk = Desk(once(got.append), processed=memory)
    sent = event()
    assert desk.deliver(sent)
    assert desk.deliver(sent)
    assert desk.deliver(event())
    assert got == [1, 1]
    assert desk.published == []


def test_an_event_that_comes_again_to_another_instance_is_dropped():
    got: list[Any] = []
    memory = Memory()
    sent = event()
    for instance in ("i1", "i2"):
        assert Desk(once(got.append), instance=instance, processed=memory).deliver(sent)
    assert got == [1]


def test_each_instance_gets_what_is_for_every_instance():
    got: list[Any] = []
    memory = Memory()
    sent = event()
    for instance in ("i1", "i2", "i2"):
        desk = Desk(once(got.append, scope="instance"), instance=instance, processed=memory)
        assert desk.deliver(sent, "instance")
    assert got == [1, 1]


def test_work_that_comes_again_to_another_service_is_dropped():
    got: list[Any] = []
    memory = Memory()
    sent = event(broadcast=False)
    for name in ("Shop.pack", "Store.pack"):
        assert Desk(once(got.append, name=name), processed=memory).deliver(sent, "work")
    assert got == [1]


def test_each_handler_has_a_memory_of_its_own():
    got: list[str] = []
    desk = Desk(
        once(lambda body: got.append("first"), name="first"),
        once(lambda body: got.append("second"), name="second"),
        processed=Memory(),
    )
    assert desk.deliver(event())
    assert got == ["first", "second"]


def test_handlers_that_can_take_an_event_twice_cost_nothing():
    got: list[Any] = []
    memory = Memory()
    desk = Desk(handler(got.append), processed=memory)
    sent = event()
    assert desk.deliver(sent)
    assert desk.deliver(sent)
    assert got == [1, 1]
    assert memory.calls == []


def test_the_event_is_remembered_before_it_is_acknowledged_and_only_once_it_is_handled():
    memory = Memory()
    calls: list[list[str]] = []
    desk = Desk(once(lambda body: calls.append(list(memory.calls))), processed=memory)
    assert desk.deliver(event())
    assert calls == [["claim"]]
    assert memory.calls == ["claim", "done"]


def test_an_event_that_failed_is_tried_again():
    left = [OSError("not today")]
    got: list[Any] = []

    def act(body: Any) -> None:
        got.append(body)
        if left:
            raise left.pop()

    desk = Desk(once(act), processed=Memory())
    sent = event()
    assert desk.deliver(sent)
    desk.deliver_again()
    assert desk.deliver(sent)
    assert got == [1, 1]


def test_a_dead_letter_can_be_replayed():
    left: list[Exception] = [Reject("no")]
    got: list[Any] = []

    def act(body: Any) -> None:
        got.append(body)
        if left:
            raise left.pop()

    desk = Desk(once(act), processed=Memory(), recent=Memory())
    sent = event()
    assert desk.deliver(sent)
    assert desk.reason[0] == "rejected"
    assert desk.deliver(sent)
    assert got == [1, 1]


def test_an_event_that_another_worker_handles_comes_again_in_a_moment():
    got: list[Any] = []
    memory = Memory()
    desk = Desk(once(got.append), processed=memory)
    sent = event()
    assert memory.claim(key_of(desk, sent), "another", 30) is Claim.OURS
    assert desk.deliver(sent)
    assert got == []
    assert again_soon(desk)
    memory.release(key_of(desk, sent), "another")
    desk.deliver_again()
    assert got == [1]


def test_an_event_that_comes_again_to_its_own_worker_does_not_run_beside_itself():
    started, go = Event(), Event()
    got: list[Any] = []

    def act(body: Any) -> None:
        got.append(body)
        started.set()
        assert go.wait(LIMIT)

    desk = Desk(once(act), processed=Memory())
    sent = event()
    first = gevent.spawn(desk.deliver, sent)
    assert started.wait(LIMIT)
    assert desk.deliver(sent)
    assert again_soon(desk)
    go.set()
    assert first.get(timeout=LIMIT)
    assert got == [1]


def test_where_order_must_hold_it_waits_in_its_place_for_the_other_worker(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("gemstone_sync.event.processor._SOON", (0.01, 0.02))
    got: list[Any] = []
    memory = Memory()
    desk = Desk(once(got.append), processed=memory)
    sent = event(key="k")
    memory.claim(key_of(desk, sent), "another", 30)
    memory.calls.clear()
    running = gevent.spawn(desk.deliver, sent, "keyed")
    wait_until(lambda: len(memory.calls) >= 3, "three questions")
    assert got == []
    memory.done(key_of(desk, sent), "another")
    assert running.get(timeout=LIMIT)
    assert (got, desk.published) == ([], [])


def test_a_claim_is_renewed_while_the_handler_runs_and_no_longer():
    memory = Memory()

    def act(body: Any) -> None:
        wait_until(lambda: memory.calls.count("renew") >= 3, "renewals")
        # Three times its lease: nobody else gets it.
        assert memory.claim(key_of(desk, sent), "another", 30) is Claim.BUSY

    desk = Desk(once(act), processed=memory, lease=0.6)
    sent = event()
    assert desk.deliver(sent)
    assert desk.published == []
    renewed = memory.calls.count("renew")
    gevent.sleep(0.5)  # two renewals' time: there must be none
    assert memory.calls.count("renew") == renewed


def test_a_handler_that_is_cut_off_gives_its_claim_back_at_once():
    started = Event()
    memory = Memory()

    def act(body: Any) -> None:
        started.set()
        gevent.sleep(LIMIT)

    desk = Desk(once(act), processed=memory, recent=Memory())
    sent = event()
    running = gevent.spawn(desk.deliver, sent)
    assert started.wait(LIMIT)
    running.kill(timeout=LIMIT)
    assert running.value is False
    assert memory.claim(key_of(desk, sent), "another", 30) is Claim.OURS


def test_while_the_memory_is_away_nothing_runs_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, LOGGER)
    got: list[Any] = []
    memory = Memory()
    memory.away.add("claim")
    desk = Desk(once(got.append), processed=memory)
    sent = event()
    assert desk.deliver(sent)
    assert got == []
    assert again_soon(desk)
    desk.deliver_again()
    assert "connection refused" in caplog.text
    memory.away.clear()
    desk.deliver_again()
    assert (got, desk.published) == ([1], [])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_with_memory_and_broker_away_the_event_is_given_back():
    memory = Memory()
    memory.away.add("claim")
    desk = Desk(once(print), processed=memory)
    desk.away = "no connection"
    assert desk.deliver(event()) is False


def test_a_mark_that_cannot_be_written_at_first_is_written_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("gemstone_sync.event.claims._PAUSES", (0.01, 0.02))
    memory = Memory()
    memory.away.add("done")
    got: list[Any] = []
    desk = Desk(once(got.append), processed=memory)
    gevent.spawn(lambda: (wait_until(lambda: "done" in memory.calls, "it"), memory.away.clear()))
    sent = event()
    assert desk.deliver(sent)
    assert desk.deliver(sent)
    assert got == [1]
    memory.away.add("done")
    assert desk.deliver(event())
    assert "a repetition is handled again" in caplog.text


def test_a_claim_that_cannot_be_given_back_does_not_lose_the_event():
    memory = Memory()
    memory.away.add("release")

    def act(body: Any) -> None:
        raise OSError("not today")

    desk = Desk(once(act), processed=memory)
    assert desk.deliver(event())
    assert desk.published[0][0].attempts == 1


# Several transports


def test_what_comes_over_two_transports_is_handled_once():
    recent = Memory()
    got: list[Any] = []
    sent = event()
    first, second = (Desk(handler(got.append), recent=recent) for _ in range(2))
    assert first.deliver(sent)
    assert second.deliver(sent)
    assert got == [1]
    assert first.published + second.published == []


def test_what_comes_over_two_transports_at_once_is_handled_once():
    recent = Memory()
    started, go = Event(), Event()
    got: list[Any] = []

    def act(body: Any) -> None:
        got.append(body)
        started.set()
        assert go.wait(LIMIT)

    first, second = (Desk(handler(act), recent=recent) for _ in range(2))
    sent = event()
    running = [gevent.spawn(first.deliver, sent)]
    assert started.wait(LIMIT)
    running.append(gevent.spawn(second.deliver, sent))
    wait_until(lambda: recent.calls.count("claim") >= 3, "the second one asks")
    go.set()
    assert [greenlet.get(timeout=LIMIT) for greenlet in running] == [True, True]
    assert (got, first.published, second.published) == ([1], [], [])


def test_what_failed_over_one_transport_is_still_handled():
    recent = Memory()
    left = [OSError("not today")]
    got: list[Any] = []

    def act(body: Any) -> None:
        if left:
            raise left.pop()
        got.append(body)

    first, second = (Desk(handler(act), recent=recent) for _ in range(2))
    sent = event()
    assert first.deliver(sent)
    assert second.deliver(sent)
    first.deliver_again()
    assert got == [1]


def test_with_both_memories_the_shared_one_decides():
    got: list[Any] = []
    shared, recent = Memory(), Memory()
    desk = Desk(once(got.append), processed=shared, recent=recent)
    sent = event()
    shared.claim(key_of(desk, sent), "another", 30)
    assert desk.deliver(sent)
    assert again_soon(desk)
    shared.done(key_of(desk, sent), "another")
    desk.deliver_again()
    assert got == []
    assert recent.claim(key_of(desk, sent), "me", 1) is Claim.DONE


# Keys


def test_a_handler_can_ask_under_which_key_its_event_is_remembered():
    keys: list[Any] = []
    desk = Desk(once(lambda body: keys.append(deduplication_key())), processed=Memory())
    sent = event()
    assert desk.deliver(sent)
    assert keys == [key_of(desk, sent)] == [f"{sent.id}:shop:on_event"]


@pytest.mark.parametrize("id", ["i" * 5000, "\udcff", "é", "a b\n"])
def test_whatever_the_id_its_key_is_short_and_plain(id: str):
    desk = Desk(once(print), processed=Memory())
    key = key_of(desk, event(id=id))
    assert len(key) <= 200
    assert key.isascii()
    assert key != key_of(desk, event(id=id + "x"))
