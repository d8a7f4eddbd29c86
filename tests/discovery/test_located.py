"""Clients of found services follow those that come and go, and never wait while one answers."""

import gevent
import pytest

from gemstone_sync import ConnectionFailed
from gemstone_sync.client import sending
from gemstone_sync.client.background import BackgroundCalls
from gemstone_sync.concurrency import Call, current_call
from gemstone_sync.concurrency.native import native_sleep
from gemstone_sync.discovery import MemoryDiscoveryStrategy, locator
from gemstone_sync.discovery.locator import LocatedService
from tests.support.faulty_server import FaultyServer, answer
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, gather, wait_until

from .support import A, B, Strategy


def dead_url():
    return f"http://127.0.0.1:{free_port()}/api"


def test_an_answer_is_used_for_as_long_as_it_lives(locating):
    with FaultyServer() as server:
        strategy = Strategy([server.url])
        found_by = locating(strategy)
        for _ in range(50):
            assert found_by.client_of("users").methods.ping() == "pong"

    assert strategy.asked == ["users"]


def test_what_is_old_is_renewed_beside_the_calls(locating, eager):
    """Calls go on while the question hangs; the answer is used once it is there."""
    with FaultyServer() as old, FaultyServer() as new:
        strategy = Strategy([old.url])
        client = locating(strategy, time_to_live=0.001).client_of("users")
        strategy.may_answer.clear()
        strategy.found = [new.url]
        wait_until(lambda: client.urls and strategy.delayed, "the renewal's question")
        asked = len(strategy.asked)
        for _ in range(50):
            assert client.methods.ping() == "pong"
        assert old.received["ping"] == 50
        assert len(strategy.asked) == asked
        strategy.may_answer.set()
        wait_until(lambda: client.urls == [new.url], "the new endpoint")

        assert client.methods.ping() == "pong"
        assert new.received["ping"] == 1


def test_a_client_that_is_kept_follows_those_that_come_and_go(locating, eager):
    memory = MemoryDiscoveryStrategy()
    memory.ping("users", A)
    client = locating(memory, time_to_live=0.001).client_of("users")
    assert client.urls == [A]

    memory.ping("users", B)
    wait_until(lambda: client.urls == [A, B], "the one that came")
    memory.goodbye("users", A)
    wait_until(lambda: client.urls == [B], "that the other one went")


@pytest.mark.parametrize(
    "answer_now",
    [[], None, OSError("it is down"), 7, ["javascript:1"]],
    ids=["empty", "None", "it fails", "a number", "no URL"],
)
def test_endpoints_outlive_a_registry_that_knows_nobody(locating, eager, answer_now):
    """One that was just started again, or is down."""
    strategy = Strategy([A])
    client = locating(strategy, time_to_live=0.001).client_of("users")
    strategy.found = answer_now

    def asked_again():
        assert client.urls == [A]
        return len(strategy.asked) >= 3

    wait_until(asked_again, "two more questions")
    strategy.found = [B]
    wait_until(lambda: client.urls == [B], "the next good answer")


SEVEN = [f"http://10.0.0.{number}:8000/api" for number in range(1, 8)]


def test_a_registry_that_has_heard_of_few_so_far_keeps_the_others(locating, eager, monkeypatch):
    """One that was just started again: the first instances must not get everybody's calls."""
    strategy = Strategy(SEVEN)
    client = locating(strategy, time_to_live=0.001).client_of("users")

    def asked_again():
        assert sorted(client.urls) == SEVEN
        return len(strategy.asked) >= asked + 3

    for known in (SEVEN[:1], SEVEN[:3]):
        strategy.found = known
        asked = len(strategy.asked)
        wait_until(asked_again, "more questions")

    strategy.found = SEVEN[:4]  # most of them: it is believed that the others are gone
    wait_until(lambda: client.urls == SEVEN[:4], "the answer to be used")
    strategy.found = SEVEN[:1]
    monkeypatch.setattr(locator, "_GRACE", 0.01)
    wait_until(lambda: client.urls == SEVEN[:1], "the others to be given up")


def test_one_that_ends_its_connections_is_asked_about_once_its_goodbye_has_come(
    locating, monkeypatch
):
    """It is about to stop, though it answers still; a server that keeps none tells nothing."""
    monkeypatch.setattr(locator, "_LEAST_INTERVAL", 0.2)
    closing = answer(Connection="close")
    with FaultyServer(answer(), closing) as leaving, FaultyServer(closing) as never_keeps:
        strategy = Strategy([leaving.url])
        client = locating(strategy).client_of("users")
        client.methods.ping()
        strategy.found = [never_keeps.url]
        client.methods.ping()
        assert client.urls == [leaving.url]
        wait_until(lambda: client.urls == [never_keeps.url], "the other one")
        for _ in range(10):
            client.methods.ping()
        native_sleep(0.25)
        client.methods.ping()
    assert strategy.asked == ["users"] * 2


def test_a_service_that_moves_is_followed_without_a_lost_call(locating):
    """However soon after the last question, and however long its answer would have been good."""
    strategy = Strategy([dead_url()])
    client = locating(strategy).client_of("users")
    for _ in range(5):
        with FaultyServer() as place:
            strategy.found = [place.url]
            assert client.methods.ping() == "pong"

    assert len(strategy.asked) == 6


def test_a_service_that_is_gone_is_not_asked_about_with_each_call(locating, monkeypatch):
    monkeypatch.setattr(locator, "_LEAST_INTERVAL", 1000.0)
    strategy = Strategy([dead_url()])
    client = locating(strategy).client_of("users")
    for _ in range(5):
        with pytest.raises(ConnectionFailed):
            client.methods.ping()

    assert len(strategy.asked) == 2


@pytest.mark.parametrize(("dead", "time_to_live"), [(1, 1000.0), (2, 0.001)])
def test_one_that_fails_is_asked_about_and_given_up_while_others_answer(
    locating, eager, dead, time_to_live
):
    """An answer that lacks so many would not be believed of instances that answer."""
    with FaultyServer() as alive:
        strategy = Strategy([alive.url, *(dead_url() for _ in range(dead))])
        client = locating(strategy, time_to_live=time_to_live).client_of("users")
        strategy.found = [alive.url]

        def is_forgotten():
            assert client.methods.ping() == "pong"
            return client.urls == [alive.url]

        wait_until(is_forgotten, "that the dead are forgotten")


def test_what_fails_just_after_a_question_is_asked_about_later(locating):
    """With one of the next calls, not when the answer has become old."""
    strategy = Strategy([A, B])
    located = LocatedService("users", locating(strategy), BackgroundCalls(1), 1000.0)
    located.ask_first()
    located.unreachable(A)
    located.renew(LIMIT)
    assert len(strategy.asked) == 2

    located.unreachable(B)
    strategy.found = [A]
    wait_until(lambda: located.urls() == (A,), "that the dead one is forgotten")


def test_all_of_a_services_endpoints_gone_and_a_registry_that_hangs(locating, eager, monkeypatch):
    """The call waits for the registry no longer than a moment."""
    monkeypatch.setattr(sending, "_ASKING", 0.05)
    strategy = Strategy([dead_url()])
    client = locating(strategy).client_of("users")
    strategy.may_answer.clear()
    failing = gevent.spawn(client.methods.ping)
    failing.join(timeout=LIMIT / 2)

    assert failing.ready()
    assert "connection refused" in str(failing.exception)
    strategy.may_answer.set()


def test_the_first_question_has_the_callers_deadline_and_a_renewal_has_not(locating, eager):
    """A renewal serves those who come later, too."""
    strategy, *several = Strategy([A]), Strategy([A]), Strategy([A])
    call = Call()

    def serve():
        current_call.set(call)
        locating(*several).client_of("users")
        client = locating(strategy, time_to_live=0.001).client_of("users")
        wait_until(lambda: client.urls and len(strategy.asked) >= 2, "a renewal")

    gather([serve])

    assert all(one.calls == [call] for one in several)
    assert strategy.calls[:2] == [call, None]
