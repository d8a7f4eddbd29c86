"""Finding services by name: who is asked, what of the answers counts, and who gets which client.

What a client does later, when services come and go, is in test_located.py.
"""

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from gemstone_sync import RemoteService, ServiceConfigurationError, ServiceNotFound
from gemstone_sync.discovery import MemoryDiscoveryStrategy, locator
from gemstone_sync.discovery.locator import Locator
from tests.support.faulty_server import FaultyServer, answer, hang
from tests.support.waiting import LIMIT, wait_until

from .locating import A, B, OtherStrategy, Strategy
from .support import LOGGER, patient_http

# What is found


def test_a_client_over_all_that_is_found(locating: Callable[..., Locator]) -> None:
    strategy = Strategy([A, B])
    client = locating(strategy).client_of("users.*")

    assert isinstance(client, RemoteService)
    assert client.urls == [A, B]
    assert strategy.asked == ["users.*"]


def test_patterns_are_the_strategies_affair(locating: Callable[..., Locator]) -> None:
    memory = MemoryDiscoveryStrategy()
    memory.ping("shop.worker.1", A)
    memory.ping("shop.worker.2", B)
    memory.ping("shop.orders", "http://10.0.0.3:8000/api")

    assert locating(memory).client_of("shop.worker.[12]").urls == [A, B]


def test_an_answer_may_be_one_url(locating: Callable[..., Locator]) -> None:
    assert locating(Strategy(A)).client_of("users").urls == [A]


def test_a_service_that_nobody_knows(locating: Callable[..., Locator]) -> None:
    for nothing in ([], None, ""):
        with pytest.raises(ValueError, match="no service 'users' is known") as caught:
            locating(Strategy(nothing)).client_of("users")
        assert isinstance(caught.value, ServiceNotFound)


def test_a_service_that_was_not_found_is_asked_for_again(
    locating: Callable[..., Locator],
) -> None:
    strategy = Strategy([])
    found_by = locating(strategy)
    with pytest.raises(ServiceNotFound):
        found_by.client_of("users")
    strategy.found = [A]

    assert found_by.client_of("users").urls == [A]


def test_nobody_who_could_be_asked(locating: Callable[..., Locator]) -> None:
    """The message names each of them, with its reason."""
    strategies = Strategy(OSError("it is down")), OtherStrategy(KeyError())
    with pytest.raises(ServiceNotFound) as caught:
        locating(*strategies).client_of("users")

    assert str(caught.value) == (
        "'users' cannot be looked up: the strategy: it is down; the other one: KeyError"
    )


def test_no_strategy() -> None:
    with pytest.raises(ServiceConfigurationError, match="set service_registry_urls or discovery"):
        Locator([]).client_of("users")


NONSENSE = [
    "javascript:alert(1)",
    "ftp://10.0.0.1/api",
    "http://ada:secret@10.0.0.1/api",
    "http://*/api",
    "http://a b/api",
    "x" * 10_000,
    7,
    None,
    ["http://10.0.0.9/api"],
]


def test_what_is_no_url_is_left_out(
    locating: Callable[..., Locator], caplog: pytest.LogCaptureFixture
) -> None:
    found = [*NONSENSE[:5], A, *NONSENSE[5:], A]
    client = locating(Strategy(found)).client_of("users")

    assert client.urls == [A]
    assert len([r for r in caplog.records if r.name == LOGGER]) == 1
    assert "secret" not in caplog.text


def test_nothing_but_nonsense_is_no_service(locating: Callable[..., Locator]) -> None:
    with pytest.raises(ServiceNotFound):
        locating(Strategy(NONSENSE)).client_of("users")


# Who is asked, in which order


def test_the_first_that_knows_something_is_enough(locating: Callable[..., Locator]) -> None:
    first, second = Strategy([A]), OtherStrategy([B])

    assert locating(first, second).client_of("users").urls == [A]
    assert second.asked == []


@pytest.mark.parametrize(
    "unfit",
    [[], None, ["javascript:1"], OSError("it is down"), 7, object()],
    ids=["empty", "None", "no URL", "it fails", "a number", "an object"],
)
def test_the_next_is_asked_when_one_knows_nothing(
    locating: Callable[..., Locator], unfit: Any
) -> None:
    first, second = Strategy(unfit), OtherStrategy([B])

    assert locating(first, second).client_of("users").urls == [B]
    assert first.asked == ["users"]


def test_neighbours_of_one_class_are_asked_at_once(locating: Callable[..., Locator]) -> None:
    """One that hangs does not hold up the answer of another one."""
    hanging, quick = Strategy([A]), Strategy([B])
    hanging.may_answer.clear()
    asking = gevent.spawn(locating(hanging, quick).client_of, "users")

    assert asking.get(timeout=LIMIT / 2).urls == [B]
    assert hanging.asked == quick.asked == ["users"]
    hanging.may_answer.set()


@pytest.mark.parametrize(
    "quick_answer", [[], OSError("it is down"), 7], ids=["empty", "it fails", "nonsense"]
)
def test_the_first_good_answer_counts(locating: Callable[..., Locator], quick_answer: Any) -> None:
    quick, slow = Strategy(quick_answer), Strategy([A])
    slow.may_answer.clear()
    asking = gevent.spawn(locating(quick, slow).client_of, "users")
    wait_until(lambda: quick.asked and slow.asked, "both questions")
    slow.may_answer.set()

    assert asking.get(timeout=LIMIT).urls == [A]


def test_the_next_class_is_asked_when_all_of_one_know_nothing(
    locating: Callable[..., Locator],
) -> None:
    found_by = locating(Strategy([]), Strategy(OSError()), OtherStrategy([B]))

    assert found_by.client_of("users").urls == [B]


def test_a_registry_that_hangs_does_not_hold_up(locating: Callable[..., Locator]) -> None:
    with FaultyServer(hang) as hanging, FaultyServer(answer([A])) as good:
        registries = [patient_http(hanging.url), patient_http(good.url)]
        asking = gevent.spawn(locating(*registries).client_of, "users")

        assert asking.get(timeout=LIMIT / 2).urls == [A]
        assert good.received["locate_service"] == 1


# One client for one name


def test_the_same_name_and_options_give_the_same_client(locating: Callable[..., Locator]) -> None:
    strategy = Strategy([A])
    found_by = locating(strategy)
    client = found_by.client_of("users")
    with_timeout = found_by.client_of("users", timeout=3, authentication_method=("ada", "s"))

    assert found_by.client_of("users") is client
    assert with_timeout is not client
    assert with_timeout is found_by.client_of(
        "users", authentication_method=("ada", "s"), timeout=3
    )
    assert found_by.client_of("orders") is not client
    assert strategy.asked == ["users", "orders"]


def test_callers_at_once_get_the_same_client(locating: Callable[..., Locator]) -> None:
    strategy = Strategy([A])
    strategy.may_answer.clear()
    found_by = locating(strategy)
    asking = [gevent.spawn(found_by.client_of, "users") for _ in range(10)]
    wait_until(lambda: len(strategy.asked), "a question")
    strategy.may_answer.set()
    clients = [greenlet.get(timeout=LIMIT) for greenlet in asking]

    assert len({id(client) for client in clients}) == 1


def test_options_that_cannot_be_compared(locating: Callable[..., Locator]) -> None:
    strategy = Strategy([A])
    found_by = locating(strategy)
    for _ in range(3):
        assert found_by.client_of("users", idempotent_methods=["get"]).urls == [A]

    assert strategy.asked == ["users"]


def test_an_option_that_is_wrong(locating: Callable[..., Locator]) -> None:
    found_by = locating(Strategy([A]))
    for _ in range(2):
        with pytest.raises(ValueError, match="total_timeout is a number above 0"):
            found_by.client_of("users", total_timeout=0)


def test_names_are_not_remembered_without_end(
    locating: Callable[..., Locator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may come from callers."""
    monkeypatch.setattr(locator, "_MOST_NAMES", 5)
    strategy = Strategy([A])
    found_by = locating(strategy)
    clients = [weakref.ref(found_by.client_of(f"users.{number}")) for number in range(50)]
    gc.collect()

    assert sum(client() is not None for client in clients) == 5
    found_by.client_of("users.49")
    assert len(strategy.asked) == 50
    assert found_by.client_of("users.0").urls == [A]


# The end


def test_closing_closes_the_strategies(
    locating: Callable[..., Locator], caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be closed does not keep the others open."""

    class Stuck(Strategy):
        def close(self) -> None:
            raise OSError("it is stuck")

    class WithoutClose:
        def locate(self, name: str) -> list[str]:
            return []

    last = Strategy([A])
    found_by = locating(Stuck(), WithoutClose(), last)
    found_by.close()

    assert last.closed == 1
    told = [r for r in caplog.records if r.name == LOGGER and r.levelno == logging.ERROR]
    assert len(told) == 1


def test_a_client_can_be_used_after_the_end(locating: Callable[..., Locator], eager: None) -> None:
    with FaultyServer() as server:
        found_by = locating(Strategy([server.url]), time_to_live=0.001)
        client = found_by.client_of("users")
        client.methods.ping()
        found_by.close()

        assert client.methods.ping() == "pong"


# Without patching

PLAIN = """
import threading

from gemstone_sync.concurrency import is_patched
from gemstone_sync.discovery import MemoryDiscoveryStrategy
from gemstone_sync.discovery.locator import Locator

A, B = "http://10.0.0.1:8000/api", "http://10.0.0.2:8000/api"
go_on = threading.Event()

class Hanging(MemoryDiscoveryStrategy):
    hangs = False

    def locate(self, name):
        if self.hangs:
            go_on.wait(60)
        return super().locate(name)

first, second = Hanging(), Hanging()
second.ping("users", A)
first.hangs = True
found_by = Locator([first, second], time_to_live=0.01)
client = found_by.client_of("users")
print(client.urls)

second.ping("users", B)
while client.urls != [A, B]:
    threading.Event().wait(0.01)
print(client.urls)

go_on.set()
found_by.close()
print(is_patched())
"""


def test_it_works_in_a_program_that_is_not_patched(run_python: Callable[..., Any]) -> None:
    done = run_python(PLAIN)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"['{A}']", f"['{A}', '{B}']", "False"]
