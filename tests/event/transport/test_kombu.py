"""kombu's own transports: what they cannot promise is said, and what they can do works."""

import contextlib

import pytest

from gemstone_sync import EventNotDelivered, KombuEventTransport, ServiceConfigurationError
from gemstone_sync.event import deadletters
from tests.event.suite.services import Network, handler


@pytest.fixture
def network(tmp_path):
    """Services over kombu's filesystem transport, which several processes can share."""
    folders = {}
    for name in ("data_folder_in", "data_folder_out", "processed_folder", "control_folder"):
        place = tmp_path / ("data" if name.startswith("data") else name)
        place.mkdir(exist_ok=True)
        folders[name] = str(place)

    def make():
        return KombuEventTransport("filesystem://", accept_loss=True, transport_options=folders)

    with contextlib.closing(Network(make)) as network:
        yield network


@pytest.mark.parametrize(
    ("url", "options", "parts"),
    [
        (
            "filesystem://",
            {},
            ["process is killed", "nothing is delivered later", "accept_loss=True", "Sqlite"],
        ),
        ("memory://", {}, ["services of the same process only"]),
        ("nosuch://x", {"accept_loss": True}, ["kombu cannot use this URL"]),
    ],
)
def test_one_that_loses_events_is_refused_with_what_it_loses(url, options, parts):
    with pytest.raises(ServiceConfigurationError) as caught:
        KombuEventTransport(url, **options).start()
    for part in parts:
        assert part in str(caught.value)


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
    with pytest.raises(EventNotDelivered, match="nobody handles"):
        network.emit("unknown", 1, broadcast=False)
