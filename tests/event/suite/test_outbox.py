"""What an outbox promises, over each broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import EventNotDelivered, MicroService
from gemstone_sync.event import deadletters
from gemstone_sync.event.outbox import delivery
from gemstone_sync.event.transport import BrokerEventTransport
from tests.support.waiting import LIMIT, wait_until, why_not_ready

from .services import Network, Node, handler

BATCH = [
    *[("x", number) for number in range(20)],
    ("w", 1, {"broadcast": False}),
    *[("x", number, {"key": "k"}) for number in range(20, 40)],
    ("w", 2, {"broadcast": False, "key": "k"}),
]


def heard(network: Network, service: str = "hears") -> list[Any]:
    return [body for name, _, body in network.told if name == service]


def test_work_that_nobody_takes_waits_by_itself_until_somebody_does(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "_REFUSED", (0.2, 0.4))
    monkeypatch.setattr(delivery, "_LOOK", 0.1)
    network.start("hears", handler("x"))
    out = network.start("out", {"outbox": str(tmp_path / "outbox.db")})
    ids = out.emit_events(BATCH)
    wait_until(lambda: len(heard(network)) == 40, "the others")
    attempts = lambda: [letter.attempts for letter in deadletters.list(out.outbox)]  # noqa: E731
    wait_until(lambda: attempts() > [2, 2], "attempts")
    assert sorted(heard(network)) == list(range(40))
    assert out.outbox.pending() == 2
    assert "2 events wait" in str(why_not_ready(out))
    assert "nobody handles work named" in str(why_not_ready(out))
    letters = deadletters.list(out.outbox)
    assert [letter.id for letter in letters] == [ids[20], ids[41]]
    assert {letter.reason for letter in letters} == {"refused"}

    network.start("works", handler("w"))
    wait_until(lambda: len(heard(network, "works")) == 2, "the work")
    assert out.outbox.drain(LIMIT)
    wait_until(lambda: why_not_ready(out) is None, "ready again")
    assert sorted(heard(network)) == list(range(40))


def test_it_is_replayed_and_dropped_like_a_dead_letter(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "_REFUSED", (60.0, 60.0))
    out = network.start("out", {"outbox": str(tmp_path / "outbox.db")})
    out.emit_events([("w", number, {"broadcast": False}) for number in range(3)])
    wait_until(lambda: len(deadletters.list(out.outbox)) == 3, "all three")
    _first, second, third = deadletters.list(out.outbox, "w")
    assert deadletters.show(out.outbox, second.id) == second
    assert deadletters.purge(out.outbox, second.id) == 1
    network.start("works", handler("w"))
    assert deadletters.replay(out.outbox, third.id) == 1
    wait_until(lambda: heard(network, "works") == [2], "the third")
    assert deadletters.purge(out.outbox, event="w") == 1
    assert out.outbox.drain(LIMIT)


class Away(BrokerEventTransport):
    """One whose broker is away until it is there."""

    def __init__(self, transport: BrokerEventTransport) -> None:
        self.transport, self.away, self.asked = transport, True, 0

    make_link = None  # type: ignore[assignment]

    def publish(self, envelopes: Any, *, timeout: float) -> None:
        self.asked += 1
        if self.away:
            raise EventNotDelivered("connection refused")
        self.transport.publish(envelopes, timeout=timeout)

    def __str__(self) -> str:
        return "away"

    def start(self) -> None:
        self.transport.start()

    def stop(self, timeout: float = 10.0) -> None:
        self.transport.stop(timeout)

    def why_not_ready(self) -> str | None:
        return None


def test_with_one_of_two_brokers_away_the_other_gets_each_event_once(
    network: Network,
    make_transport: Callable[..., BrokerEventTransport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(delivery, "_AWAY", (0.01, 0.05))
    network.start("hears", handler("x"))
    away = Away(make_transport())
    members = {"name": "out", "outbox": str(tmp_path / "outbox.db")}
    out: MicroService = type("Out", (Node,), members)()
    out.event_transports = [make_transport(), away]
    out.start(block=False)
    network.nodes.append(out)
    for start in range(0, 40, 10):
        out.emit_events([("x", number) for number in range(start, start + 10)])
    wait_until(lambda: len(heard(network)) == 40, "all of them")
    wait_until(lambda: away.asked > 10, "attempts")
    assert sorted(heard(network)) == list(range(40))
    away.away = False
    assert out.outbox.drain(LIMIT)
    wait_until(lambda: len(heard(network)) == 80, "the same from the other")
    assert sorted(heard(network)) == sorted([*range(40), *range(40)])
