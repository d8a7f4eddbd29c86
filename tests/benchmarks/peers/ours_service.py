"""The service of all benchmarks that call gemstone_sync: every default on but what BENCH_… sets.

Run as a program it is the own server (port from BENCH_PORT); gunicorn loads `ours_service:service`.
"""

import os
import resource
import time
from dataclasses import dataclass

import gemstone_sync

SETTINGS = {
    "BENCH_PORT": ("port", int),
    "BENCH_WORKERS": ("workers", int),
    "BENCH_MAX_CONNECTIONS": ("max_connections", int),
    "BENCH_KEEP_ALIVE": ("keep_alive_timeout", float),
    "BENCH_WIRE_FORMAT": ("wire_format", str),
}


@dataclass
class Record:
    """One record of a typical listing, some 100 bytes as JSON."""

    id: int
    name: str
    price: float
    active: bool
    tags: list[str]


class Adder(gemstone_sync.MicroService):
    name = "benchmark.adder"
    kept: object = None

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        """Return the sum of two ints."""
        return a + b

    @gemstone_sync.exposed_method()
    def burn(self) -> int:
        """Burn 1 ms of CPU (not of time: a preempted process has still to do all of it)."""
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        return 3

    @gemstone_sync.exposed_method()
    def nap(self, a: int, b: int) -> int:
        """Return the sum after 10 ms in which nothing is done."""
        time.sleep(0.01)
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


for variable, (attribute, kind) in SETTINGS.items():
    if variable in os.environ:
        setattr(Adder, attribute, kind(os.environ[variable]))

service = Adder()

if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(Adder.max_connections + 500, hard), hard))
    service.start()
