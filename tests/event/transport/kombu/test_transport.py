"""Services over kombu's own transports: what they cannot promise is said, the rest works."""

import contextlib
import logging

import gevent
import pytest

from gemstone_sync import EventNotDelivered, KombuEventTransport, ServiceConfigurationError
from gemstone_sync.event import deadletters
from gemstone_sync.event.transport.kombu import transport as kombu_transport
from tests.event.suite.services import Network, handler
from tests.support import kombu
from tests.support.redis import private_redis
from tests.support.waiting import wait_until, why_not_ready

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture
def redis_too(monkeypatch):
    """Kombu's transport of Redis, which is refused, as what sentinel:// uses."""
    monkeypatch.setattr(kombu_transport, "TRANSPORTS", {})


@pytest.fixture(params=kombu.PLACES)
def network(request, tmp_path, redis_too):
    application = kombu.new_application()
    with kombu.PLACES[request.param](tmp_path) as (url, options):

        def make(**more):
            return KombuEventTransport(
                url, accept_loss=True, transport_options=options, application=application, **more
            )

        with contextlib.closing(Network(make)) as network:
            network.unseen = request.param == "sqlalchemy"
            yield network


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("filesystem://", ["is lost when its process is killed", "nothing is delivered later"]),
        ("memory://", ["nothing leaves the process or outlives it"]),
        ("sentinel://h", ["not handled within 3600 s (visibility_timeout), or its process killed"]),
        ('sentinel://h?transport_options={"visibility_timeout":60}', ["within 60 s"]),
        ("sqlalchemy+sqlite:///x.db", ["only work that is handled by its very name is reached"]),
    ],
)
def test_what_it_cannot_promise_is_said_at_the_start_in_one_line(url, parts, caplog):
    with pytest.raises(ServiceConfigurationError, match="accept_loss=True") as caught:
        KombuEventTransport(url).start()
    transport = KombuEventTransport(url, accept_loss=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            transport._check()
    (line,) = caplog.messages
    for part in (*parts, "one key may be handled in another order"):
        assert part in str(caught.value)
        assert part in line


@pytest.mark.parametrize(
    ("url", "why"), [("nosuch://x", "kombu cannot use this URL"), ("qpid://x", "none|not one of")]
)
def test_one_that_cannot_be_used_is_refused_at_the_start(url, why):
    with pytest.raises(ServiceConfigurationError, match=why):
        KombuEventTransport(url, accept_loss=True).start()


def test_broadcast_work_retries_and_dead_letters_work_over_it(network):
    bad = [OSError("not today")] * 3

    def act(body):
        if body == "bad" and bad:
            raise bad.pop()

    for service in ("a", "a", "b"):
        network.start(service, handler("x.*", act, retries=2, backoff=0.05))
    network.emit("x.y", "good")
    network.emit("x.y", "job", broadcast=False)
    network.wait_for(3)
    assert sorted(body for _, _, body in network.told) == ["good", "good", "job"]
    network.emit("x.y", "bad", broadcast=False)
    network.wait_for(6)
    assert [(letter.body, letter.reason) for letter in network.letters()] == [("bad", "failed")]
    transport = network.make_transport()
    assert deadletters.replay(transport) == 1
    network.wait_for(7)
    assert deadletters.list(transport) == []
    with pytest.raises(ServiceConfigurationError, match="cannot deliver later"):
        network.emit("x", 1, delay=5)
    if not network.unseen:
        with pytest.raises(EventNotDelivered, match="nobody handles"):
            network.emit("unknown", 1, broadcast=False)


def test_full_queues_of_several_handlers_hold_up_nobody(network):
    running, most = {"a": 0, "b": 0}, {"a": 0, "b": 0}

    def slow(name):
        def act(body):
            running[name] += 1
            most[name] = max(most[name], running[name])
            gevent.sleep(0.005)
            running[name] -= 1

        return act

    handlers = [handler(n, slow(n), method=f"on_{n}", concurrency=2) for n in ("a", "b")]
    quick = handler("c", method="on_c")
    network.start("shop", *handlers, quick, pool_size=4)
    count = 4 if network.unseen else 20  # each look into SQLite's file takes 5 ms
    network.emit_all([(name, number) for number in range(count) for name in ("a", "b")])
    network.emit("c", 1)
    network.emit_all([("a", number, {"broadcast": False}) for number in range(count)])
    network.wait_for(3 * count + 1)
    assert max(most.values()) == 2


def test_what_a_service_was_handling_when_it_stops_is_handled_by_the_next(network):
    stuck = [True]

    def act(body):
        while stuck:
            gevent.sleep(0.01)

    node = network.start("shop", handler("x", act), pool_size=3)
    network.emit_all([("x", number) for number in range(6)])
    wait_until(lambda: len(network.told) == 3, "three that are handled")
    node.stop_timeout = 0.1
    node.stop()
    network.nodes.remove(node)
    network.told.clear()
    stuck.clear()
    network.start("shop", handler("x"), pool_size=3)
    network.wait_for(6)
    assert sorted(body for _, _, body in network.told) == list(range(6))


def test_a_broker_that_goes_away_and_comes_back_loses_nothing(tmp_path, redis_too):
    with private_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:

        def make(**options):
            return KombuEventTransport(server.url, accept_loss=True, connect_timeout=0.5)

        with contextlib.closing(Network(make)) as network:
            network.start("shop", handler("x", lambda body: gevent.sleep(0.3)))
            network.emit_all([("x", number) for number in range(5)])
            wait_until(lambda: len(network.told) == 5, "five that are handled")
            server.kill()
            gone = network.nodes[1]
            wait_until(lambda: why_not_ready(gone) is not None, "not ready")
            server.start()
            wait_until(lambda: why_not_ready(gone) is None, "ready again")
            network.emit("x", 5)
            network.wait_for(6)
            # What was handled meanwhile was acknowledged afterwards.
            with network.make_transport().link() as link:
                assert link._channel.client.hlen("unacked") == 0
