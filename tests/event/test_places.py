"""Places: so many at once, and nobody is passed over."""

import gevent
import pytest
from gevent.threadpool import ThreadPool

from gemstone_sync.event.places import Places
from tests.event.scripted_link import in_child


class Owner:
    """One that takes a place whenever it is woken, if it still wants one."""

    def __init__(self, places: Places, wants: int) -> None:
        self.places = places
        self.wants = wants
        self.has = 0
        self.woken = 0
        self.wake()

    def wake(self) -> None:
        self.woken += 1
        while self.wants and self.places.take(self):
            self.wants -= 1
            self.has += 1
        if not self.wants:
            self.places.leave(self)

    def end(self) -> None:
        self.has -= 1
        self.places.give()
        self.wake()


def test_those_that_wait_have_their_turn_in_order_and_who_gives_goes_to_the_end():
    places = Places(2)
    busy = Owner(places, 100)
    second, third = Owner(places, 1), Owner(places, 1)
    assert (busy.has, second.has, third.has) == (2, 0, 0)
    busy.end()
    assert (busy.has, second.has, third.has) == (2, 0, 0), "it stood first in line"
    busy.end()
    assert (busy.has, second.has, third.has) == (1, 1, 0)
    busy.end()
    assert (busy.has, second.has, third.has) == (0, 1, 1)
    second.end()
    assert (busy.has, second.has, third.has) == (1, 0, 1)


def test_who_leaves_holds_up_nobody():
    places = Places(1)
    has = Owner(places, 1)
    first, second = Owner(places, 1), Owner(places, 1)
    first.wants = 0
    has.end()
    assert (first.has, second.has) == (0, 1)


@pytest.mark.parametrize("limit", [1, 3])
def test_threads_never_have_more_and_all_come_through(limit: int):
    places, pool = Places(limit), ThreadPool(4)
    most = []
    running: list[None] = []

    def work() -> None:
        class Waiting:
            def wake(self) -> None:
                pass

        waiter, left = Waiting(), 200
        while left:
            if places.take(waiter):
                running.append(None)
                most.append(len(running))
                running.pop()
                places.give()
                left -= 1

    threads = [pool.spawn(work) for _ in range(4)]
    gevent.joinall([gevent.spawn(thread.get) for thread in threads], raise_error=True)
    pool.kill()
    assert max(most) <= limit


def test_in_a_forked_child_all_are_free():
    places = Places(1)
    owner = Owner(places, 2)
    assert owner.has == 1
    assert in_child(lambda: places.take(owner) and not places.take(owner))
    assert not places.take(owner)
