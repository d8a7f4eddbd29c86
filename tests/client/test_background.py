"""Calls in the background: how many at once, what they keep of their caller, how they end."""

import concurrent.futures
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import requests.auth
from gevent.event import Event

import gemstone_sync
from gemstone_sync import (
    AsyncMethodCall,
    ConnectionFailed,
    MethodCall,
    MethodNotFound,
    MicroService,
    RemoteService,
    as_completed,
)
from gemstone_sync.testing import running_service
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, wait_until


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


@pytest.fixture
def service() -> Iterator[Counting]:
    with running_service(Counting) as running:
        yield running  # type: ignore[misc]
        running.go_on.set()


def client_of(service: MicroService, **options: Any) -> RemoteService:
    return RemoteService(service.url, timeout=LIMIT, total_timeout=2 * LIMIT, **options)


def test_pool_size_bounds_the_calls_that_run_at_once(service: Counting) -> None:
    with client_of(service, pool_size=4) as client:
        calls = [client.methods.hold.async_(number) for number in range(20)]
        wait_until(lambda: service.running == 4, "the first calls")
        gevent.sleep(0)
        assert service.running == 4
        service.go_on.set()
        assert [call.result(wait=True) for call in calls] == list(range(20))
        assert service.most == 4


def test_a_copy_with_other_options_shares_the_bound(service: Counting) -> None:
    with client_of(service, pool_size=2) as client:
        other = client.with_options(timeout=LIMIT / 2)
        calls = [each.methods.hold.async_(1) for each in (client, other) for _ in range(3)]
        wait_until(lambda: service.running == 2, "the first calls")
        service.go_on.set()
        assert [call.result(wait=True) for call in calls] == [1] * 6
        assert service.most == 2


def test_a_call_does_not_wait_for_a_place_at_the_expense_of_its_time(service: Counting) -> None:
    """``total_timeout`` starts when the call does."""
    with RemoteService(service.url, timeout=LIMIT, total_timeout=LIMIT, pool_size=1) as client:
        first = client.methods.hold.async_(1)
        wait_until(lambda: service.running == 1, "the first call")
        second = client.with_options(timeout=5, total_timeout=5).methods.double.async_(2)
        assert second.wait(0.05) is False
        service.go_on.set()
        assert (first.result(wait=True), second.result(wait=True)) == (1, 4)


def test_thousands(service: Counting) -> None:
    with client_of(service) as client:
        calls = [client.methods.double.async_(number) for number in range(3000)]
        assert [call.result(wait=True) for call in calls] == [2 * n for n in range(3000)]


def test_thousands_as_they_finish(service: Counting) -> None:
    with client_of(service, pool_size=20) as client:
        calls = [client.methods.double.async_(number) for number in range(2000)]
        assert sorted(c.result() for c in as_completed(*calls)) == list(range(0, 4000, 2))


# Closing


def test_close_lets_what_has_begun_finish(service: Counting) -> None:
    client = client_of(service, pool_size=2)
    calls = [client.methods.hold.async_(number) for number in range(4)]
    wait_until(lambda: service.running == 2, "the first calls")

    client.close()
    client.close()
    service.go_on.set()

    assert [call.result(wait=True) for call in calls] == list(range(4))


def test_a_client_that_was_closed_can_be_used_again(service: Counting) -> None:
    with client_of(service) as client:
        assert client.methods.double.async_(1).result(wait=True) == 2
    assert client.methods.double.async_(2).result(wait=True) == 4
    assert client.methods.double(3) == 6
    client.close()


def test_close_ends_the_threads(service: Counting) -> None:
    def threads() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("gemstone_sync-call")}

    before = threads()
    with client_of(service, pool_size=5) as client:
        calls = [client.methods.hold.async_(number) for number in range(5)]
        wait_until(lambda: service.running == 5, "the calls")
        assert len(threads() - before) == 5
        service.go_on.set()
        assert [call.result(wait=True) for call in calls] == list(range(5))
    wait_until(lambda: not threads() - before, "the threads' end")


# What a call keeps


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


# Handles


def test_what_cannot_be_called_fails_at_once(service: Counting) -> None:
    with client_of(service) as client:
        with pytest.raises(TypeError, match="not both"):
            client.methods.double.async_(1, number=2)
        with pytest.raises(TypeError, match="not both"):
            client.methods.double(1, number=2, __async=True)
        with pytest.raises(TypeError, match="method's name"):
            client.call_method_async(7)  # type: ignore[arg-type]


def test_each_kind_of_failure_is_in_the_handle(service: Counting) -> None:
    with client_of(service) as client:
        refused = client.methods.nonsense.async_()
        refused.wait()
        assert isinstance(refused.error(), MethodNotFound)

        unsendable = client.methods.double.async_(object())
        unsendable.wait()
        assert isinstance(unsendable.error(), TypeError)
        assert not unsendable.successful()
    with RemoteService(f"http://127.0.0.1:{free_port()}/api") as nobody:
        failed = nobody.methods.double.async_(1)
        failed.wait()
        assert isinstance(failed.error(), ConnectionFailed)
        with pytest.raises(ConnectionFailed):
            failed.result()


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


def test_a_handle_names_its_call(service: Counting) -> None:
    with client_of(service) as client:
        call = MethodCall("double", [4])
        handle = client.call_method_async(call)
        assert handle.request is call
        assert handle.result(wait=True) == 8
        assert repr(handle) == "<AsyncMethodCall 'double' finished>"


def test_two_that_start_at_once_share_the_bound(service: Counting) -> None:
    with client_of(service, pool_size=3) as client:
        starting = [gevent.spawn(client.methods.hold.async_, number) for number in range(9)]
        handles = [greenlet.get(timeout=LIMIT) for greenlet in starting]
        wait_until(lambda: service.running == 3, "the first calls")
        service.go_on.set()
        assert [handle.result(wait=True) for handle in handles] == list(range(9))
        assert service.most == 3
