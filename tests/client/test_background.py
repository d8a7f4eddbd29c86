"""Calls in the background: how many at once, what they keep of their caller, how they end."""

import concurrent.futures
import contextlib
import contextvars
import functools
import gc
import os
import re
import threading
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests.auth
from gevent.event import Event

import gemstone_sync
from gemstone_sync import (
    AsyncMethodCall,
    ConnectionFailed,
    MethodNotFound,
    MicroService,
    RemoteService,
    as_completed,
)
from tests.support.faulty_server import FaultyServer, answer, when
from tests.support.programs import program
from tests.support.waiting import LIMIT, gather, wait_until

from .faults import SHORT, client_of, dead_url


class Counting(MicroService):
    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most = 0
        self.go_on = Event()

    @gemstone_sync.exposed_method()
    def hold(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        self.go_on.wait(LIMIT)
        self.running -= 1
        return number

    @gemstone_sync.exposed_method()
    def double(self, number: int) -> int:
        return 2 * number


SERVICE = Counting


def test_pool_size_bounds_the_calls_that_run_at_once(service: Counting) -> None:
    """Those of copies with other options included, also where they start at the same time."""
    with client_of(service, pool_size=4) as client:
        each = [client, client.with_options(timeout=LIMIT / 2)] * 10
        starting = [gevent.spawn(one.methods.hold.async_, n) for n, one in enumerate(each)]
        calls = [greenlet.get(timeout=LIMIT) for greenlet in starting]
        wait_until(lambda: service.running == 4, "the first calls")
        gevent.sleep(0)
        assert service.running == 4
        service.go_on.set()
        assert [call.result(wait=True) for call in calls] == list(range(20))
        assert service.most == 4


def test_a_call_does_not_wait_for_a_place_at_the_expense_of_its_time() -> None:
    """``total_timeout`` starts when the call does."""
    go_on = Event()
    with (
        FaultyServer(when(go_on, answer())) as server,
        client_of(server, pool_size=1) as client,
    ):
        client.methods.ping.async_()
        wait_until(lambda: server.received["ping"] == 1, "the first call")
        # Several: where the machine stands still, the time of one may pass before it is sent.
        hurried = client.with_options(total_timeout=SHORT)
        others = [hurried.methods.ping.async_() for _ in range(5)]
        assert others[0].wait(1.5 * SHORT) is False
        go_on.set()
        wait_until(lambda: server.received["ping"] >= 2, "the second call")
        assert all(other.wait(LIMIT) for other in others)


def test_hundreds_as_they_finish(client: RemoteService) -> None:
    calls = [client.methods.double.async_(number) for number in range(500)]
    assert sorted(call.result() for call in as_completed(*calls)) == list(range(0, 1000, 2))


def test_close_lets_what_has_begun_finish(service: Counting) -> None:
    client = client_of(service, pool_size=2)
    calls = [client.methods.hold.async_(number) for number in range(4)]
    wait_until(lambda: service.running == 2, "the first calls")

    client.close()
    client.close()
    service.go_on.set()

    assert [call.result(wait=True) for call in calls] == list(range(4))


def test_close_ends_the_threads_and_the_client_can_be_used_again(service: Counting) -> None:
    def threads() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("gemstone_sync-call")}

    before = threads()
    client = client_of(service, pool_size=5)
    for _ in range(2):
        service.go_on.clear()
        with client:
            calls = [client.methods.hold.async_(number) for number in range(5)]
            wait_until(lambda: service.running == 5, "the calls")
            assert len(threads() - before) == 5
            service.go_on.set()
            assert [call.result(wait=True) for call in calls] == list(range(5))
        wait_until(lambda: not threads() - before, "the threads' end")


def test_a_call_that_begins_while_another_thread_closes_the_client(
    service: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing = iter([True])
    submit = concurrent.futures.ThreadPoolExecutor.submit

    def closed_before(executor: Any, *call: Any) -> Any:
        if next(closing, False):
            client.close()
        return submit(executor, *call)

    with client_of(service) as client:
        monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", closed_before)
        assert client.methods.double.async_(2).result(wait=True) == 4


def test_a_call_keeps_its_callers_context(service: Counting) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    seen = []

    class Marking(requests.auth.AuthBase):
        def __call__(self, request: Any) -> Any:
            seen.append(mark.get())
            return request

    with client_of(service, authentication_method=Marking()) as client:

        def call(text: str) -> AsyncMethodCall:
            mark.set(text)
            return client.methods.double.async_(1)

        texts = [f"context {number}" for number in range(20)]
        calls = [contextvars.copy_context().run(call, text) for text in texts]
        assert [c.result(wait=True) for c in calls] == [2] * 20
    assert sorted(seen) == sorted(texts)


def test_each_kind_of_failure_is_in_the_handle(client: RemoteService) -> None:
    nobody = client_of(dead_url())
    for call, kind in (
        (client.methods.nonsense.async_(), MethodNotFound),
        (client.methods.double.async_(object()), TypeError),
        (nobody.methods.double.async_(1), ConnectionFailed),
    ):
        call.wait()
        assert isinstance(call.error(), kind)
        assert not call.successful()
        with pytest.raises(kind):
            call.result()
    nobody.close()


def test_a_handle_is_a_future_for_who_wants_one(service: Counting) -> None:
    with client_of(service, pool_size=1) as client:
        first, second = client.methods.hold.async_(1), client.methods.hold.async_(2)
        wait_until(lambda: service.running == 1, "the first call")
        seen: list[Any] = []
        first.future.add_done_callback(lambda future: seen.append(future.result().value()))

        assert second.future.cancel()  # it had not begun
        assert second.finished()
        assert isinstance(second.error(), concurrent.futures.CancelledError)
        assert not second.successful()
        with pytest.raises(concurrent.futures.CancelledError):
            second.result()

        service.go_on.set()
        assert first.result(wait=True) == 1
        wait_until(lambda: seen == [1], "the callback")
        assert service.most == 1


ECHO = """
import collections
import gemstone_sync

class Echo(gemstone_sync.MicroService):
    name = "echo"

    def __init__(self):
        super().__init__()
        self.seen = collections.Counter()

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def echo(self, number):
        self.seen[number] += 1
        return str(number) * 10

    @gemstone_sync.exposed_method()
    def counts(self):
        counts, self.seen = self.seen, collections.Counter()
        return {"numbers": len(counts), "calls": sum(counts.values())}

if __name__ == "__main__":
    Echo().start()
"""


def open_sockets() -> int:
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was the one that lists the directory
            count += os.readlink(descriptor).startswith("socket:")
    return count


def resident() -> int:
    """Kilobytes of this process in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def make_calls(client: RemoteService) -> None:
    """A hundred greenlets' own hundred calls; each answer is the one to its call."""

    def calls_from(first: int) -> None:
        numbers = range(first, first + 100)
        handles = [client.methods.echo.async_(number) for number in numbers]
        for number, handle in zip(numbers, handles, strict=True):
            assert handle.result(wait=True) == str(number) * 10

    gather([functools.partial(calls_from, first) for first in range(0, 10_000, 100)], limit=100)


def settle(client: RemoteService, sockets: int) -> None:
    """Close the client, and wait until its sockets and threads have gone."""
    client.close()
    wait_until(lambda: open_sockets() == sockets, "the sockets' end")
    wait_until(
        lambda: not any("gemstone_sync-call" in thread.name for thread in threading.enumerate()),
        "the threads' end",
    )
    gc.collect()


@pytest.mark.slow  # tens of thousands of calls
def test_ten_thousand_asynchronous_calls(tmp_path: Path) -> None:
    """The service is in a process of its own, so that what is open in this one is the client's."""
    with program(ECHO, tmp_path, "--port", "0") as running:
        client = client_of(f"http://127.0.0.1:{running.wait_until_ready()}/api")
        before = open_sockets()
        make_calls(client)  # imports, code and pools have their places in memory now
        client.methods.counts()
        settle(client, before)
        objects = len(gc.get_objects())
        growths: list[int] = []
        # What the allocator keeps differs from run to run; what leaks leaks in each.
        while not growths or (growths[-1] >= 5_000 and len(growths) < 5):
            memory = resident()
            make_calls(client)
            assert client.methods.counts() == {"numbers": 10_000, "calls": 10_000}
            assert 0 < open_sockets() - before <= 100  # pool_size
            settle(client, before)
            growths.append(resident() - memory)

        assert growths[-1] < 5_000, growths  # half a kilobyte per call

        def nothing_is_left() -> bool:
            gc.collect()  # what the threads had goes some moments after their names
            return len(gc.get_objects()) - objects < 1000  # of 10,000 calls: not one for each

        wait_until(nothing_is_left, "what 10,000 calls have left")
        assert running.terminate() == 0
        assert "Traceback" not in running.stderr
