"""What every store promises, whatever it keeps the messages in."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from gevent.event import Event

from gemstone_sync.errors import StoreFault
from gemstone_sync.event.transport.stores.store import (
    Entry,
    KnownBindings,
    QueueStore,
    Stored,
    StoredQueue,
)
from tests.support.waiting import LIMIT, wait_until

from .support import (
    LEASE,
    STORES,
    bind,
    declare_exchange,
    declare_queue,
    put,
    take,
    texts,
)

T = TypeVar("T")

#: Seconds: long enough to look at what is leased, short enough to wait for its end.
SHORT = 0.3


@pytest.fixture(params=STORES)
def make(request, tmp_path):
    """Makes stores over the same messages; they are open, and closed in the end."""
    made: list[QueueStore] = []
    with STORES[request.param](tmp_path) as make_store:

        def make(**options):
            made.append(make_store(**options))
            made[-1].open()
            return made[-1]

        yield make
        for store in made:
            store.close()


@pytest.fixture
def store(make):
    """There are a topic exchange "x" and a queue "q"."""
    store = make()
    declare_exchange(store, "x", "topic")
    declare_queue(store, "q")
    return store


@pytest.fixture
def other(make, store):
    """Another process's."""
    return make()


def take_when_there(store: QueueStore) -> list[str]:
    return wait_until(lambda: take(store), "a message")  # type: ignore[no-any-return]


def settle(store: QueueStore) -> None:
    """Have `changed` know all that has happened so far."""
    wait_until(lambda: not store.changed(), "changed() to come to rest")


def in_time(store: QueueStore, act: Callable[[], T]) -> T:
    """What `act` gives before anything that it has begun ends, after `SHORT`.

    Where the machine stood still meanwhile it is done all over again, with an empty queue.
    """
    while True:
        began = time.monotonic()
        result = act()
        if time.monotonic() - began < SHORT:
            return result
        store.delete_queue("q")
        declare_queue(store, "q")


def test_a_topic_exchange_gives_each_matching_queue_one_copy(store):
    for queue in ("a", "b", "c"):
        declare_queue(store, queue)
    for pattern, queue in (("orders.*", "a"), ("orders.paid", "a"), ("#", "b"), ("other", "c")):
        bind(store, "x", pattern, queue)
    entries = [Entry("x", "orders.paid", b"1"), Entry("x", "none.at.all", b"2")]
    assert store.publish(entries) == [2, 1]
    assert [take(store, queue=queue) for queue in ("a", "b", "c")] == [["1"], ["1", "2"], []]


def test_work_goes_to_one_queue_of_the_best_pattern(store):
    declare_exchange(store, "work", "work")
    for queue, pattern in (
        ("any", "once.#"),
        ("some", "once.mail.*"),
        ("exact-2", "once.mail.send"),
        ("exact-1", "once.mail.send"),
    ):
        declare_queue(store, queue)
        bind(store, "work", pattern, queue)
    names = ["once.mail.send", "once.mail.read", "once.print", "keyed.mail.send"]
    assert store.publish([Entry("work", name, name.encode()) for name in names]) == [1, 1, 1, 0]
    found = {queue: take(store, queue=queue) for queue in ("any", "some", "exact-1", "exact-2")}
    assert found == {
        "any": ["once.print"],
        "some": ["once.mail.read"],
        "exact-1": ["once.mail.send"],
        "exact-2": [],
    }


def test_what_nobody_takes_goes_nowhere(store):
    entries = [Entry("", "no such queue", b"1"), Entry("x", "a", b"2"), Entry("none", "a", b"3")]
    assert store.publish(entries) == [0, 0, 0]
    assert store.publish([]) == []
    assert take(store, queue="no such queue") == []
    assert store.size("no such queue") == store.purge("no such queue") == 0


def test_another_process_s_binding_counts_for_the_next_message(store, other):
    assert store.publish([Entry("x", "a", b"too early")]) == [0]
    declare_queue(other, "r")
    bind(other, "x", "a", "r")
    assert store.publish([Entry("x", "a", b"1")]) == [1]
    bind(other, "x", "a", "r")
    assert store.publish([Entry("x", "a", b"2")]) == [1]
    assert take(other, queue="r") == ["1", "2"]
    other.delete_queue("r")
    assert store.publish([Entry("x", "a", b"too late")]) == [0]


def test_a_deleted_queue_takes_bindings_and_messages_along(store):
    bind(store, "x", "a", "q")
    put(store, "1")
    store.delete_queue("q")
    store.delete_queue("q")
    assert store.publish([Entry("x", "a", b"2"), Entry("", "q", b"3")]) == [0, 0]
    declare_queue(store, "q")
    assert take(store) == []


def test_what_cannot_be_bound_leaves_nothing_declared(store, other):
    with pytest.raises(StoreFault, match="'missing'"):
        store.declare({"y": "topic"}, [StoredQueue("r")], [("y", "a", "r"), ("y", "a", "missing")])
    assert other.publish([Entry("", "r", b"1"), Entry("y", "a", b"2")]) == [0, 0]


def test_declaring_again_keeps_what_is_there(store, other):
    bind(store, "x", "a", "q")
    put(store, "1")
    declare_exchange(other, "x", "topic")
    declare_queue(other, "q", delivery_limit=5, dead_letter_queue="dead")
    assert take(other) == ["1"]
    assert other.publish([Entry("x", "a", b"2")]) == [1]


def test_messages_come_oldest_first_at_most_so_many(store, other):
    declare_queue(store, "r")
    put(store, "1", "2", "3", "4")
    put(store, "5", queue="r")
    taken = other.take([("q", 3), ("r", 9), ("none", 1)], LEASE)
    assert [message.queue for message in taken] == ["q", "q", "q", "r"]
    assert texts(taken) == ["1", "2", "3", "5"]
    assert {message.deliveries for message in taken} == {0}
    assert take(store) == ["4"]
    assert take(store) == []
    assert store.take([], LEASE) == []


def test_any_bytes_come_out_as_they_went_in(store):
    name = "q:ö:☃:" + "x" * 200
    declare_queue(store, name)
    payloads = [b"", bytes(range(256)), b"x" * 3_000_000]
    store.publish([Entry("", name, payload, key="sch\udcfcssel") for payload in payloads])
    for payload in payloads:
        (message,) = store.take([(name, 10)], LEASE)
        assert message.payload == payload
        store.acknowledge([message.id])


def test_what_is_acknowledged_never_comes_again(store, other):
    put(store, "1", "2")
    ids = [message.id for message in store.take([("q", 10)], SHORT)]
    assert store.acknowledge(ids[:1]) == 1
    assert store.acknowledge(ids[:1]) == 0
    assert store.acknowledge([]) == 0
    assert take_when_there(other) == ["2"]
    assert other.size("q") == 0


def test_what_is_released_is_in_its_old_place_at_once(store):
    put(store, "1", "2", "3")
    first, second = store.take([("q", 2)], LEASE)
    store.release([second.id, first.id])
    store.release([])
    again = store.take([("q", 10)], LEASE)
    assert texts(again) == ["1", "2", "3"]
    assert [message.deliveries for message in again] == [0, 0, 0]


def test_what_another_has_by_now_is_not_postponed(store, other):
    put(store, "1")
    (first,) = store.take([("q", 1)], SHORT)
    wait_until(lambda: other.take([("q", 1)], LEASE), "the end of its lease")
    assert not store.postpone(first.id, b"2", 0.001)
    assert take(store) == []


def test_what_is_postponed_comes_when_it_is_due_changed_in_its_old_place(store, other):
    put(store, "a1", "a2", key="a")
    put(store, "b1")
    held = {message.payload: message for message in store.take([("q", 9)], LEASE)}
    assert [*held] == [b"a1", b"b1"]
    assert store.postpone(held[b"a1"].id, b"a longer one", SHORT)
    assert store.postpone(held[b"b1"].id, b"b", 0.001)
    assert not store.postpone(held[b"b1"].id, b"again", 0.001)
    assert store.acknowledge([held[b"a1"].id, held[b"b1"].id]) == 0
    assert store.size("q") == 3
    seen = []
    while len(seen) < 3:
        taken = other.take([("q", 9)], LEASE)
        seen += [(message.payload, message.deliveries) for message in taken]
        other.acknowledge([message.id for message in taken])
    assert seen == [(b"b", 0), (b"a longer one", 0), (b"a2", 0)]


def test_size_counts_and_purge_removes_what_is_not_taken(store):
    declare_queue(store, "r")
    put(store, "another queue's", queue="r")
    put(store, "1", "2")
    put(store, "k1", "k2", "k3", key="k")
    put(store, "later", due=time.time() + 60)
    assert store.size("q") == 6
    one, two, first = store.take([("q", 3)], LEASE)
    assert store.size("q") == 3
    store.acknowledge([two.id])
    assert store.size("q") == 3
    assert store.purge("q") == 3
    assert store.size("q") == 0
    store.release([one.id, first.id])
    assert take(store) == ["1", "k1"]
    assert store.purge("q") == 0
    assert take(store, queue="r") == ["another queue's"]


def test_what_is_not_acknowledged_comes_back_and_is_counted(store, other):
    def look():
        put(store, "1", "2")
        return store.take([("q", 10)], SHORT), take(other)

    taken, early = in_time(store, look)
    assert early == []
    assert wait_until(lambda: other.size("q"), "the lease's end") == 2
    put(store, "3")
    again = other.take([("q", 10)], LEASE)
    assert texts(again) == ["1", "2", "3"]
    assert [message.deliveries for message in again] == [1, 1, 0]
    # The one who was late has no say any more.
    ids = [message.id for message in taken]
    assert store.acknowledge(ids) == 0
    store.release(ids)
    store.renew(ids, SHORT)
    assert take(store) == []
    assert other.acknowledge([message.id for message in again]) == 3


@pytest.mark.parametrize("taken_again", [True, False])
def test_a_lease_whose_owner_lives_and_gives_it_back_late_is_not_counted(store, other, taken_again):
    put(store, "1")
    ids = [message.id for message in store.take([("q", 10)], 0.05)]
    wait_until(lambda: other.size("q"), "the lease's end")
    if taken_again:
        (again,) = other.take([("q", 10)], LEASE)
        assert again.deliveries == 1
    store.release(ids)
    if taken_again:
        assert take(store) == [], "it is the other one's"
        other.release([again.id])
    else:
        assert store.size("q") == 1
    if taken_again:
        (last,) = other.take([("q", 10)], LEASE)
        assert last.deliveries == 0


def test_a_renewed_lease_holds(store, other):
    put(store, "kept", "not kept")
    kept, _ = store.take([("q", 10)], SHORT)
    store.renew([kept.id], LEASE)
    store.renew([], LEASE)
    assert take_when_there(other) == ["not kept"]
    assert store.acknowledge([kept.id]) == 1


def test_leases_that_end_one_after_the_other_reach_the_limit(store):
    declare_queue(store, "dead")
    declare_queue(store, "q", delivery_limit=2, dead_letter_queue="dead")
    put(store, "poison", "behind it", key="k")
    for deliveries in range(2):
        (message,) = wait_until(lambda: store.take([("q", 10)], 0.05), "the message")
        assert (message.payload, message.deliveries) == (b"poison", deliveries)
    assert take_when_there(store) == ["behind it"]
    (dead,) = store.take([("dead", 10)], LEASE)
    assert (dead.payload, dead.queue) == (b"poison", "dead")
    assert store.size("q") == 0


def test_what_is_given_back_or_has_no_queue_for_dead_letters_is_kept(store):
    declare_queue(store, "q", delivery_limit=1, dead_letter_queue="not there")
    put(store, "1")
    for _ in range(5):
        store.release([message.id for message in store.take([("q", 1)], LEASE)])
    assert [message.deliveries for message in store.take([("q", 1)], 0.05)] == [0]
    assert take_when_there(store) == ["1"]


def test_what_is_not_due_waits(store, other):
    def look():
        due = time.time() + SHORT
        put(store, "far future", due=due + 1e10)
        put(store, "later", due=due)
        put(store, "now")
        put(store, "long ago", due=1.0)
        return due, take(other), take(other)

    due, *taken = in_time(store, look)
    assert taken == [["now", "long ago"], []]
    assert take_when_there(other) == ["later"]
    assert time.time() >= due - 0.002
    assert store.size("q") == 1


def test_one_of_a_key_is_out_at_a_time_in_order(store, other):
    put(store, "a1", "a2", "a3", key="a")
    put(store, "b1", "b2", key="")  # which is a key
    put(store, "free")
    seen = []
    while taken := store.take([("q", 10)], LEASE):
        assert take(other) == []
        seen.append(texts(taken))
        store.acknowledge([message.id for message in taken])
    assert seen == [["a1", "b1", "free"], ["a2", "b2"], ["a3"]]


def test_a_key_waits_for_the_one_that_comes_back(store, other):
    def look():
        put(store, "1", "2", key="k")
        store.take([("q", 10)], SHORT)
        put(store, "3", key="k")
        return take(other)

    assert in_time(store, look) == []
    assert take_when_there(other) == ["1"]
    assert take(other) == []


def test_one_that_is_not_due_holds_back_its_key(store):
    def look():
        put(store, "1", key="k", due=time.time() + SHORT)
        put(store, "2", key="k")
        put(store, "3", key="other")
        return take(store), take(store)

    assert in_time(store, look) == (["3"], [])
    (first,) = wait_until(lambda: store.take([("q", 10)], LEASE), "the one that is due")
    assert first.payload == b"1"
    store.acknowledge([first.id])
    assert take(store) == ["2"]


def test_keys_of_other_queues_do_not_matter(store):
    declare_queue(store, "r")
    for queue in ("q", "r"):
        bind(store, "x", "#", queue)
    store.publish([Entry("x", "a", b"1", "k"), Entry("x", "a", b"2", "k")])
    assert take(store) == take(store, queue="r") == ["1"]


def test_many_keys_come_in_each_one_s_order(store, other):
    store.publish([Entry("", "q", b"%d" % number, f"k{number % 7}") for number in range(100)])
    seen: list[int] = []
    while taken := store.take([("q", 3)], LEASE) + other.take([("q", 2)], LEASE):
        seen += map(int, texts(taken))
        store.acknowledge([message.id for message in taken])
    assert sorted(seen) == list(range(100))
    for key in range(7):
        own = [number for number in seen if number % 7 == key]
        assert own == sorted(own)


def test_a_queue_that_nobody_touches_goes(store, other):
    bind(store, "x", "a", "q")
    put(store, "1")
    declare_queue(store, "q", expires=SHORT)
    entries = [Entry("x", "a", b"2"), Entry("", "q", b"3")]
    wait_until(lambda: other.publish(entries) == [0, 0], "the queue's end")
    for call in (lambda: store.touch(["q"]), lambda: bind(store, "x", "a", "q")):
        with pytest.raises(StoreFault, match=r"\bq\b"):
            call()
    declare_queue(other, "q")
    assert take(other) == []


def test_a_touched_queue_stays(store):
    expires, touched = 1.0, [0.0]

    def only_one_is_left():
        now = time.monotonic()
        store.touch(["kept", "q"])
        touched[0] = now
        return store.publish([Entry("x", "a", b"1")]) == [1] and store.size("kept")

    while True:
        touched[0] = time.monotonic()
        for queue in ("kept", "forgotten"):
            store.delete_queue(queue)
            declare_queue(store, queue, expires=expires)
            bind(store, "x", "a", queue)
        try:
            assert wait_until(only_one_is_left, "the other queue's end") > 1
            break
        except StoreFault:
            # Only where the machine stood still for so long: once more.
            assert time.monotonic() - touched[0] >= expires


def gone(store: QueueStore) -> None:
    with pytest.raises(StoreFault, match="not there any more"):
        store.touch(["q"], [("x", "a", "q")])


@pytest.mark.parametrize("make", ["sqlite", "redis"], indirect=True)
def test_a_queue_that_is_gone_is_missed_until_it_is_there_again(make, other):
    store = make(known=KnownBindings())
    entries = [Entry("x", "a", b"1"), Entry("x", "b", b"2"), Entry("", "q", b"3")]
    assert store.publish(entries) == [0, 0, 1]
    bind(store, "x", "a", "q")
    assert store.publish(entries) == [1, 0, 1]
    other.delete_queue("q")
    assert store.publish(entries) == [-1, 0, 0]
    gone(store)
    declare_queue(other, "q")
    bind(other, "x", "a", "q")
    store.touch(["q"], [("x", "a", "q")])
    assert store.publish(entries) == [1, 0, 1]


@pytest.mark.parametrize("make", ["sqlite", "redis"], indirect=True)
def test_a_queue_that_nobody_declares_again_is_not_missed_for_ever(make, other, monkeypatch):
    store = make(known=KnownBindings())
    monkeypatch.setattr("gemstone_sync.event.transport.stores.store._MISSED", SHORT)
    bind(store, "x", "a", "q")
    assert store.publish([Entry("x", "a", b"1")]) == [1]
    other.delete_queue("q")
    assert store.publish([Entry("x", "a", b"1")]) == [-1]
    wait_until(lambda: store.publish([Entry("x", "a", b"1")]) == [0], "the end of its time")


def test_a_message_is_noticed_once(store, other):
    take(store)
    for publisher in (other, store):
        settle(store)
        assert not any(store.changed() for _ in range(100))
        put(publisher, "1")
        wait_until(store.changed, "changed()")
        assert take(store) == ["1"]


@pytest.mark.parametrize("what", ["becomes due", "lease ends", "is released", "key is free"])
def test_what_can_be_taken_later_is_noticed(store, other, what):

    def look():
        taken: Sequence[Stored] = []
        if what == "becomes due":
            put(other, "1", due=time.time() + SHORT)
        else:
            put(other, "1", "1", key="k")
            taken = other.take([("q", 1)], SHORT if what == "lease ends" else LEASE)
        early = take(store)
        settle(store)
        return taken, early

    taken, early = in_time(store, look)
    assert early == []
    act: dict[str, Callable[[Sequence[str]], object]] = {
        "is released": other.release,
        "key is free": other.acknowledge,
    }
    if what in act:
        act[what]([message.id for message in taken])
    wait_until(store.changed, "changed()")
    assert take(store) == ["1"]


def test_what_becomes_due_is_noticed_though_only_another_queue_is_looked_at(store):
    declare_queue(store, "r")

    def look():
        put(store, "1", due=time.time() + SHORT)
        early = take(store)
        settle(store)
        return early

    assert in_time(store, look) == []
    wait_until(lambda: take(store, queue="r") or store.changed(), "changed()")
    assert take(store) == ["1"]


@pytest.mark.parametrize("what", ["is published", "is released", "key is free", "has its end"])
def test_whoever_waits_is_woken(store, other, make, what):
    third = make()
    lease = SHORT if what == "has its end" else LEASE

    def look():
        if what != "is published":
            put(third, "1", "2", key="k")
        ids = [message.id for message in third.take([("q", 1)], lease)]
        early = take(store)
        settle(store)
        return ids, early

    ids, early = in_time(store, look)
    assert early == []
    acts: dict[str, Callable[[], object]] = {
        "is published": lambda: put(other, "1"),
        "is released": lambda: third.release(ids),
        "key is free": lambda: third.acknowledge(ids),
        "has its end": lambda: wait_until(lambda: other.take([("q", 1)], SHORT), "the lease's end"),
    }
    woken = Event()
    with store.waking(woken.set):
        acts[what]()
        assert woken.wait(LIMIT)
        assert store.changed()


def test_nobody_is_woken_by_what_was_told_before(store, other):
    take(store)
    woken = Event()
    with store.waking(woken.set):
        pass
    put(other, "1")
    wait_until(store.changed, "changed()")
    take(store)
    settle(store)
    with store.waking(woken.set):
        assert not woken.wait(0.05)
        assert store.seconds_left() <= 1.0


def test_a_closed_store_opens_when_it_is_used(store):
    store.open()
    store.close()
    store.close()
    put(store, "1")
    store.close()
    assert take(store) == ["1"]
