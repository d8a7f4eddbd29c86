"""Finding services by name: who is asked, what of the answers counts, who gets which client."""

import gc
import logging
import weakref

import gevent
import pytest
import requests

from gemstone_sync import RemoteService, ServiceConfigurationError, ServiceNotFound
from gemstone_sync.discovery import locator
from tests.support.faulty_server import FaultyServer
from tests.support.waiting import LIMIT, wait_until

from .support import LOGGER, A, B, OtherStrategy, Strategy, Stuck


def test_a_client_over_all_that_is_found(locating):
    strategy = Strategy([A, B])
    client = locating(strategy).client_of("users.*")

    assert isinstance(client, RemoteService)
    assert client.urls == [A, B]
    assert strategy.asked == ["users.*"]
    assert locating(Strategy(A)).client_of("users").urls == [A], "an answer may be one URL"


def test_a_session_carries_the_calls_of_a_client(locating):
    """It has connections of its own, and not those that the other clients share."""
    seen = []
    with FaultyServer() as server, requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: seen.append(response.url))
        client = locating(Strategy(server.url)).client_of("users", session=session)

        assert client.methods.ping() == "pong"
        assert seen == [server.url]


def test_a_service_that_nobody_knows_is_asked_for_again(locating):
    strategy = Strategy([])
    found_by = locating(strategy)
    for nothing in ([], None, ""):
        strategy.found = nothing
        with pytest.raises(ValueError, match="no service 'users' is known") as caught:
            found_by.client_of("users")
        assert isinstance(caught.value, ServiceNotFound)
    strategy.found = [A]

    assert found_by.client_of("users").urls == [A]


def test_nobody_who_could_be_asked(locating):
    """The message names each of them, with its reason."""
    strategies = Strategy(OSError("it is down")), OtherStrategy(KeyError())
    with pytest.raises(ServiceNotFound) as caught:
        locating(*strategies).client_of("users")
    with pytest.raises(ServiceConfigurationError, match="set service_registry_urls or discovery"):
        locating().client_of("users")

    assert str(caught.value) == (
        "'users' cannot be looked up: the strategy: it is down; the other one: KeyError"
    )


NONSENSE = [
    *("javascript:alert(1)", "ftp://10.0.0.1/api", "http://ada:secret@10.0.0.1/api"),
    *("http://*/api", "http://a b/api", "x" * 10_000, 7, None, ["http://10.0.0.9/api"]),
]


def test_what_is_no_url_is_left_out(locating, caplog):
    client = locating(Strategy([*NONSENSE[:5], A, *NONSENSE[5:], A])).client_of("users")

    assert client.urls == [A]
    assert len([r for r in caplog.records if r.name == LOGGER]) == 1
    assert "secret" not in caplog.text
    with pytest.raises(ServiceNotFound):
        locating(Strategy(NONSENSE)).client_of("users")


@pytest.mark.parametrize(
    "unfit",
    [[], None, ["javascript:1"], OSError("it is down"), 7, object()],
    ids=["empty", "None", "no URL", "it fails", "a number", "an object"],
)
def test_the_next_is_asked_when_one_knows_nothing(locating, unfit):
    first, second, third = Strategy(unfit), OtherStrategy([B]), Strategy([A])

    assert locating(first, second, third).client_of("users").urls == [B]
    assert (first.asked, third.asked) == (["users"], []), "the first that knows is enough"


def test_neighbours_of_one_class_are_asked_at_once(locating):
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
def test_the_first_good_answer_counts_and_else_the_next_class_is_asked(locating, quick_answer):
    quick, slow, other = Strategy(quick_answer), Strategy([A]), OtherStrategy([B])
    slow.may_answer.clear()
    asking = gevent.spawn(locating(quick, slow, other).client_of, "users")
    wait_until(lambda: quick.asked and slow.asked, "both questions")
    slow.may_answer.set()

    assert asking.get(timeout=LIMIT).urls == [A]
    assert locating(quick, quick, other).client_of("users").urls == [B]


def test_the_same_name_and_options_give_the_same_client(locating):
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


def test_callers_at_once_get_the_same_client(locating):
    strategy = Strategy([A])
    strategy.may_answer.clear()
    found_by = locating(strategy)
    asking = [gevent.spawn(found_by.client_of, "users") for _ in range(10)]
    wait_until(lambda: strategy.asked, "a question")
    strategy.may_answer.set()

    assert len({id(greenlet.get(timeout=LIMIT)) for greenlet in asking}) == 1


def test_options_that_cannot_be_compared_or_are_wrong(locating):
    strategy = Strategy([A])
    found_by = locating(strategy)
    for _ in range(2):
        assert found_by.client_of("users", idempotent_methods=["get"]).urls == [A]
        with pytest.raises(ValueError, match="total_timeout is a number above 0"):
            found_by.client_of("users", total_timeout=0)

    assert strategy.asked == ["users"]


def test_names_are_not_remembered_without_end(locating, monkeypatch):
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


def test_closing_closes_the_strategies_and_clients_can_be_used_on(locating, eager, caplog):
    """One that cannot be closed does not keep the others open."""

    class WithoutClose:
        def locate(self, name):
            return []

    with FaultyServer() as server:
        last = Strategy([server.url])
        found_by = locating(Stuck(), WithoutClose(), last, time_to_live=0.001)
        client = found_by.client_of("users")
        client.methods.ping()
        found_by.close()

        assert last.closed == 1
        [_] = [r for r in caplog.records if r.name == LOGGER and r.levelno == logging.ERROR]
        assert client.methods.ping() == "pong"


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


def test_it_works_in_a_program_that_is_not_patched(run_python):
    done = run_python(PLAIN)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"['{A}']", f"['{A}', '{B}']", "False"]
