"""What the tests of the outbox stand on: a `send` that records, and databases of a user."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.outbox import Outbox
from tests.support.sqlite import execute
from tests.support.waiting import LIMIT


class Broker:
    """Takes envelopes, as a transport's publish would.

    :ivar ids: of what it took, in this order.
    :ivar calls: how often it was asked.
    :ivar away: True while it confirms nothing.
    :ivar refused: names of events that it will never take.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.calls = 0
        self.away = False
        self.refused: set[str] = set()

    def send(self, envelopes: Sequence[Envelope]) -> None:
        self.calls += 1
        if self.away:
            raise EventNotDelivered("the broker is away")
        for envelope in envelopes:
            if envelope.name in self.refused:
                raise ServiceConfigurationError(f"{envelope.name} cannot be sent")
        self.ids += ids_of(envelopes)


def events(count: int, name: str = "order.placed") -> list[Envelope]:
    return [make_envelope(name, {"id": number}) for number in range(count)]


def ids_of(envelopes: Sequence[Envelope]) -> list[str]:
    return [envelope.id for envelope in envelopes]


@contextlib.contextmanager
def sending(outbox: Outbox, broker: Broker) -> Iterator[None]:
    """Started; at the end of the block all that is stored is waited for."""
    outbox.start(broker.send)
    try:
        yield
        assert outbox.drain(LIMIT)
    finally:
        outbox.stop(5)


def sent_from(outbox: Outbox) -> list[str]:
    """Send all that is stored; its ids."""
    broker = Broker()
    with sending(outbox, broker):
        pass
    return broker.ids


@contextlib.contextmanager
def shop(folder: Path, name: str = "shop.db") -> Iterator[sqlite3.Connection]:
    """A database of the user, with one table."""
    with contextlib.closing(sqlite3.connect(folder / name)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
        connection.commit()
        yield connection


def stored_in(path: Path) -> int:
    """How many events lie in a database, read past the outbox."""
    return int(execute(path, "SELECT count(*) FROM gemstone_outbox")[0][0])
