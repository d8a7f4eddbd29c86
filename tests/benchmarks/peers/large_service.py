"""The service of payloads.py and connections.py: large parameters, large results, many connections.

Run as a program (port from BENCH_PORT). Every default is on but the two that the environment sets:
BENCH_MAX_CONNECTIONS and BENCH_KEEP_ALIVE (seconds).
"""

import os
import resource
from dataclasses import dataclass

import gemstone_sync


@dataclass
class Record:
    """One record of a typical listing, some 100 bytes as JSON."""

    id: int
    name: str
    price: float
    active: bool
    tags: list[str]


class Large(gemstone_sync.MicroService):
    name = "benchmark.large"
    host = "127.0.0.1"
    port = int(os.environ.get("BENCH_PORT", "0"))
    max_connections = int(os.environ.get("BENCH_MAX_CONNECTIONS", "2000"))
    keep_alive_timeout = float(os.environ.get("BENCH_KEEP_ALIVE", "5"))

    def on_service_start(self) -> None:
        self.kept: object = None

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        """Return the sum of two ints."""
        return a + b

    @gemstone_sync.exposed_method()
    def keep(self, value: object) -> None:
        """Keep a value, for `get` to return."""
        self.kept = value

    @gemstone_sync.exposed_method()
    def get(self) -> object:
        """Return what was kept: a large result, nothing but a name to ask for it."""
        return self.kept

    @gemstone_sync.exposed_method()
    def count(self, items: list) -> int:  # type: ignore[type-arg]
        """Take large parameters, return an int."""
        return len(items)

    @gemstone_sync.exposed_method()
    def echo(self, value: object) -> object:
        """Take and return what is large."""
        return value

    @gemstone_sync.exposed_method()
    def echo_records(self, value: list[Record]) -> list[Record]:
        """The same with every field of every record validated, and made an object."""
        return value


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = Large.max_connections + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    Large().start()
