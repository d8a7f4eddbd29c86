"""The client examples of gemstone's documentation, against a service that runs.

Only what the document prints or says belongs here, in its own spelling; `gemstone` is this package.
"""

import random
import threading
from typing import Any

import gevent
import pytest
from gevent.event import Event

import gemstone_sync as gemstone
from gemstone_sync import AsyncMethodCall, RemoteError, RemoteService
from gemstone_sync.testing import running_service
from tests.support.waiting import LIMIT, wait_until


class Hello(gemstone.MicroService):
    name = "hello.world.service"

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.gates: dict[int, Event] = {}
        self.go_on = Event()

    @gemstone.exposed_method()
    def say_hello(self, name: str) -> str:
        self.said.append(name)
        return f"hello {name}"

    @gemstone.exposed_method()
    def slow_method(self, number: int) -> int:
        """Returns its argument once the test opens its gate."""
        assert self.gate(number).wait(LIMIT)
        return number

    @gemstone.exposed_method()
    def do_stuff(self, number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return number * 10

    def gate(self, number: int) -> Event:
        return self.gates.setdefault(number, Event())


SERVICE = Hello


def test_the_first_example(
    service: Hello, client: RemoteService, capsys: pytest.CaptureFixture[str]
) -> None:
    print(client.name)  # "hello.world.service"
    print(client.methods.say_hello("world"))  # "hello world"
    print(client.notifications.say_hello("world"))  # None -> we sent a notification

    assert capsys.readouterr().out == "hello.world.service\nhello world\nNone\n"
    assert service.said == ["world", "world"]


def test_the_asynchronous_example(
    client: RemoteService, capsys: pytest.CaptureFixture[str]
) -> None:
    async_response = client.methods.say_hello("world", __async=True)

    print(async_response)
    # <AsyncMethodCall ...>

    async_response.wait()
    print(async_response.finished())
    # True
    print(async_response.result())
    # "hello world"
    print(async_response.error())
    # None

    shown, *rest = capsys.readouterr().out.splitlines()
    assert shown.startswith("<AsyncMethodCall ")
    assert shown.endswith(">")
    assert rest == ["True", "hello world", "None"]


class _Greeter:
    """Inside a class body Python writes ``_Greeter__async`` for ``__async``."""

    def greet(self, client: RemoteService) -> Any:
        return client.methods.say_hello("class", __async=True)

    def greet_by_name(self, client: RemoteService) -> Any:
        return client.methods.say_hello(name="class", __async=True)

    def greet_and_wait(self, client: RemoteService) -> Any:
        return client.methods.say_hello("class", __async=False)


class Inheriting(_Greeter):
    def greet_there(self, client: RemoteService) -> Any:
        return client.methods.say_hello("class", __async=True)


def test_the_asynchronous_example_inside_a_class(client: RemoteService) -> None:
    greeter = Inheriting()
    for greet in (greeter.greet, greeter.greet_by_name, greeter.greet_there):
        assert greet(client).result(wait=True) == "hello class"
    assert greeter.greet_and_wait(client) == "hello class"


def test_a_result_that_is_not_there_yet(service: Hello, client: RemoteService) -> None:
    call = client.methods.slow_method(7, __async=True)

    assert not call.finished()
    assert call.wait(0.01) is False
    for ask in (call.result, call.error, call.successful):
        with pytest.raises(RuntimeError, match="slow_method has not finished"):
            ask()
    assert "running" in repr(call)

    gevent.spawn_later(0.01, service.gate(7).set)
    assert call.result(wait=True) == 7
    assert call.wait(LIMIT) is True
    assert (call.result(), call.error(), call.successful()) == (7, None, True)
    assert "finished" in repr(call)


def test_an_asynchronous_call_that_fails_raises_again(client: RemoteService) -> None:
    call = client.methods.do_stuff(-1, __async=True)
    call.wait()

    assert (call.finished(), call.successful()) == (True, False)
    assert isinstance(call.error(), gemstone.InternalError)
    for _ in range(2):
        with pytest.raises(gemstone.InternalError):
            call.result()


def test_as_completed_as_the_document_uses_it(
    client: RemoteService, capsys: pytest.CaptureFixture[str]
) -> None:
    service = client
    async_calls = [service.call_method_async("do_stuff", (x,)) for x in range(25)]

    for async_call in gemstone.as_completed(*async_calls):
        print("just finished with result ", async_call.result())

    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == sorted(
        f"just finished with result  {number * 10}" for number in range(25)
    )


def test_as_completed_yields_who_finishes_first(service: Hello, client: RemoteService) -> None:
    calls = [client.call_method_async("slow_method", (number,)) for number in range(4)]
    wanted = random.sample(range(4), 4)
    seen = []

    service.gate(wanted[0]).set()
    for call in gemstone.as_completed(*calls):
        seen.append(call.result())
        if len(seen) < 4:
            service.gate(wanted[len(seen)]).set()

    assert seen == wanted


def test_first_completed_waits_for_no_other(service: Hello, client: RemoteService) -> None:
    calls = [client.call_method_async("slow_method", (number,)) for number in range(3)]
    service.gate(1).set()

    first = gemstone.first_completed(*calls)

    assert first is calls[1]
    assert first.result() == 1
    assert [call.finished() for call in calls] == [False, True, False]
    for number in (0, 2):
        service.gate(number).set()
    assert {call.result() for call in gemstone.as_completed(*calls)} == {0, 1, 2}


@pytest.mark.parametrize("in_threads", [False, True])
def test_make_callbacks(client: RemoteService, in_threads: bool) -> None:
    threads: list[int] = []
    results: list[Any] = []
    errors: list[BaseException] = []

    def on_result(value: int) -> None:
        threads.append(threading.get_ident())
        results.append(value)

    calls = [client.call_method_async("do_stuff", (number,)) for number in (1, -2, 3)]
    gemstone.make_callbacks(calls, on_result, errors.append, run_in_threads=in_threads)

    wait_until(lambda: len(results) + len(errors) == 3, "three callbacks")
    assert sorted(results) == [10, 30]
    assert [type(error) for error in errors] == [type(calls[1].error())]
    assert isinstance(errors[0], RemoteError)
    assert (threading.get_ident() in threads) is not in_threads


def test_the_import_paths_of_the_document() -> None:
    from gemstone_sync.client import remote_service, structs

    assert remote_service.AsyncMethodCall is structs.AsyncMethodCall is AsyncMethodCall
    assert remote_service.RemoteService is RemoteService
    for name in ("MethodCall", "Notification", "Result", "BatchResult"):
        assert getattr(structs, name) is getattr(gemstone, name)


def test_the_forms_that_old_programs_use(service: Hello, client: RemoteService) -> None:
    from gemstone_sync.client.structs import MethodCall, Notification

    for params in (("a",), ["a"], {"name": "a"}):
        assert client.call_method("say_hello", params).result == "hello a"
        assert client.call_method("say_hello", params=params).result == "hello a"
    assert client.call_method(MethodCall("say_hello", ("b",), 7)).id == 7
    assert client.call_method_async("say_hello", ("c",)).result(wait=True) == "hello c"
    call = MethodCall("say_hello", ["c"])
    handle = client.call_method_async(call)
    assert (handle.request, handle.result(True)) == (call, "hello c")
    assert repr(handle) == "<AsyncMethodCall 'say_hello' finished>"
    service.said.clear()
    assert client.notify("say_hello", ("d",)) is None
    assert client.notify(Notification("say_hello", {"name": "e"})) is None
    assert service.said == ["d", "e"]

    call = MethodCall("say_hello", ("f",))
    batch = client.call_batch(call, Notification("say_hello", ("g",)))
    response = batch.get_response_for_call(call)
    assert (response.result, response.error, response.id) == ("hello f", None, call.id)
    assert response.method_call is call
    assert sorted(service.said[2:]) == ["f", "g"]


def test_get_service_by_name(service: Hello, make_service: Any) -> None:
    known = {"gone": [], "a": [service.url], "b": service.url, "c": [service.url, service.url]}

    def locate_service(self: Any, name: str) -> Any:
        return known.get(name)

    with running_service(make_service(locate_service)) as registry:
        for name in "abc":
            with RemoteService.get_service_by_name(registry.url, name, timeout=LIMIT) as found:
                assert found.url == service.url
                assert found.name == "hello.world.service"
        for name in ("gone", "never heard of"):
            with pytest.raises(ValueError, match=f"knows no service '{name}'"):
                RemoteService.get_service_by_name(registry.url, name)
    with pytest.raises(gemstone.ConnectionFailed):
        RemoteService.get_service_by_name(registry.url, "a")
