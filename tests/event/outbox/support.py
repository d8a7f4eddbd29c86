"""What the tests of the outbox stand on: a `send` that records, and databases of a user."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.outbox import Outbox
from tests.support.waiting import LIMIT, wait_until


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
        self.ids += [envelope.id for envelope in envelopes]


def events(count: int, name: str = "order.placed") -> list[Envelope]:
    return [make_envelope(name, {"id": number}) for number in range(count)]


def ids_of(envelopes: Sequence[Envelope]) -> list[str]:
    return [envelope.id for envelope in envelopes]


@contextlib.contextmanager
def started(outbox: Outbox, broker: Broker) -> Iterator[None]:
    outbox.start(broker.send)
    try:
        yield
    finally:
        outbox.stop(5)


def shop(folder: Path, name: str = "shop.db") -> sqlite3.Connection:
    """A database of the user, with one table."""
    connection = sqlite3.connect(folder / name)
    connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
    connection.commit()
    return connection


def stored_in(path: Path) -> int:
    """How many events lie in a database, read past the outbox."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM gemstone_outbox").fetchone()[0])


def written(path: Path) -> list[str]:
    """The ids that the processes of a test have sent, from the file they write them to."""
    return path.read_text().split() if path.exists() else []


def wait_for_lines(path: Path, count: int, limit: float = LIMIT) -> list[str]:
    return wait_until(
        lambda: len(written(path)) >= count and written(path), f"{count} ids in {path}", limit
    )
