"""kombu's own transports: what they cannot promise is said, and what they can do works."""

import uuid

import gevent
import pytest

from gemstone_sync import EventNotDelivered, KombuEventTransport, ServiceConfigurationError
from gemstone_sync.event import deadletters
from tests.event.suite.services import Network, handler
from tests.support.waiting import wait_until


@pytest.fixture
def network(tmp_path):
    """Services over kombu's filesystem transport, which several processes can share."""
    folders = {}
    for name in ("data_folder_in", "data_folder_out", "processed_folder", "control_folder"):
        place = tmp_path / ("data" if name.startswith("data") else name)
        place.mkdir(exist_ok=True)
        folders[name] = str(place)

    def make_transport(**options):
        return KombuEventTransport(
            "filesystem://", accept_loss=True, transport_options=folders, **options
        )

    network = Network(make_transport)
    yield network
    with gevent.Timeout(30):
        network.stop()


def test_one_that_loses_events_is_refused_with_what_it_loses():
    transport = KombuEventTransport("filesystem://")
    with pytest.raises(ServiceConfigurationError) as caught:
        transport.start()
    text = str(caught.value)
    for part in ("process is killed", "nothing is delivered later", "accept_loss=True", "Sqlite"):
        assert part in text


def test_bindings_that_other_processes_do_not_see_are_told_of():
    with pytest.raises(ServiceConfigurationError, match="services of the same process only"):
        KombuEventTransport("memory://").start()


def test_a_transport_that_kombu_does_not_know_is_refused():
    with pytest.raises(ServiceConfigurationError, match="kombu cannot use this URL"):
        KombuEventTransport("nosuch://x", accept_loss=True).start()


def test_broadcast_work_retries_and_dead_letters_work_over_it(network):
    failed = []

    def act(node, body):
        if body == "bad" and len(failed) < 3:
            failed.append(body)
            raise OSError("not today")

    for service in ("a", "a", "b"):
        network.start(service, handler("x.*", act, retries=2, backoff=0.05))
    emitter = network.emitter()
    emitter.emit_event("x.y", "good")
    emitter.emit_event("x.y", "job", broadcast=False)
    network.wait_for(3)
    assert sorted(body for _, _, body in network.told) == ["good", "good", "job"]
    emitter.emit_event("x.y", "bad", broadcast=False)
    network.wait_for(6)
    transport = network.make_transport()
    letters = wait_until(lambda: deadletters.list(transport), "a dead letter")
    assert [(letter.body, letter.reason) for letter in letters] == [("bad", "failed")]
    assert deadletters.replay(transport) == 1
    network.wait_for(7)
    assert deadletters.list(transport) == []


def test_what_it_cannot_do_is_refused_at_once(network):
    network.start("a", handler("x"))
    emitter = network.emitter()
    with pytest.raises(ServiceConfigurationError, match="cannot deliver later"):
        emitter.emit_event("x", 1, delay=5)
    with pytest.raises(EventNotDelivered, match="nobody handles"):
        emitter.emit_event(f"unknown-{uuid.uuid4().hex}", 1, broadcast=False)
