"""A worker that registers itself, or a caller that finds workers: ``worker`` or ``caller``.

Attributes come from the environment: ``ATTRIBUTES`` is a JSON object of them; ``REDIS_PREFIX``
means the machine's Redis beside the registries.
"""

import json
import os
import sys
import time

import gevent
from gevent.event import Event

import gemstone_sync

#: Seconds that a worker takes for a call, and between two calls of the caller.
WORK = 0.02
PAUSE = 0.02


class Registered(gemstone_sync.MicroService):
    """What both have."""

    port = 0
    service_registry_ping_interval = 1.0
    skip_configuration = True

    def __init__(self):
        super().__init__()
        for name, value in json.loads(os.environ["ATTRIBUTES"]).items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        if prefix := os.environ.get("REDIS_PREFIX"):
            redis = gemstone_sync.RedisDiscoveryStrategy("redis://127.0.0.1:6379/0", prefix=prefix)
            self.discovery_strategies = [redis]

    def on_service_start(self):
        print(self.url, flush=True)


class Worker(Registered):
    """Says in which process it worked."""

    name = "test.worker"

    @gemstone_sync.exposed_method()
    def work(self) -> int:
        time.sleep(WORK)
        return os.getpid()

    @gemstone_sync.exposed_method(idempotent=True)
    def look(self) -> int:
        time.sleep(WORK)
        return os.getpid()


class Caller(Registered):
    """Calls what it finds 50 times a second, and keeps a record of each call.

    A record has ``method``, ``began`` and ``ended`` (of the clock that all processes share; None
    while it runs), ``pid`` (who answered), ``error`` (the exception's class) and ``may_have_run``.
    """

    name = "test.caller"
    discovery_cache_seconds = 1.0

    def __init__(self):
        super().__init__()
        self.records = []
        self.found = None
        self.has_found = Event()

    def on_service_start(self):
        super().on_service_start()
        gevent.spawn(self.call_on_and_on)

    def call_on_and_on(self):
        self.has_found.wait()
        at = time.monotonic()
        while True:
            for method in ("work", "look"):
                gevent.spawn(self.call_once, method)
                at += PAUSE
                gevent.sleep(max(0, at - time.monotonic()))

    def call_once(self, method):
        record = dict.fromkeys(["ended", "pid", "error", "may_have_run"])
        record |= {"method": method, "began": time.monotonic()}
        self.records.append(record)
        try:
            result = self.found.call_method(method, idempotent=method == "look")
            record["pid"] = result.value()
        except Exception as error:
            record["error"] = type(error).__name__
            record["may_have_run"] = getattr(error, "may_have_run", None)
        record["ended"] = time.monotonic()

    @gemstone_sync.exposed_method()
    def begin(self, name: str) -> None:
        """Find workers by name and keep calling them, through that one handle."""
        self.found = self.get_service(name)
        self.has_found.set()

    @gemstone_sync.exposed_method()
    def burst(self, count: int) -> None:
        """Make so many calls of each method, all at once."""
        for method in ("work", "look") * count:
            gevent.spawn(self.call_once, method)

    @gemstone_sync.exposed_method()
    def get_records(self, first: int) -> list:
        """The records from number `first` on."""
        return self.records[first:]

    @gemstone_sync.exposed_method()
    def find(self, name: str) -> int:
        """Ask for a service anew and call it; in which process it worked."""
        return self.get_service(name).idempotent.look()


if __name__ == "__main__":
    {"worker": Worker, "caller": Caller}[sys.argv[1]]().start()
