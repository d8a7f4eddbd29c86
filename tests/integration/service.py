"""The service of these tests: a program, and a module for gunicorn.

``ATTRIBUTES`` in the environment is a JSON object of its attributes. Each of its processes writes
a line for each thing that happens into the file ``notes``: what, the process, the time.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import flask
import gevent

import gemstone_sync

HERE = threading.local()


def wait_for_file(name: str) -> None:
    while not Path(name).exists():
        time.sleep(0.02)


class Worker(gemstone_sync.MicroService):
    name = "worker"
    port = 0
    skip_configuration = True
    timeout = "unset"  # gunicorn has an option of this name
    configurables = [
        *gemstone_sync.MicroService.configurables,
        gemstone_sync.Configurable("timeout"),
    ]
    #: What goes wrong, and when.
    fails_in: str | None = None
    dies_after: float | None = None
    stops_in: str | None = None

    def __init__(self) -> None:
        super().__init__()
        for name, value in json.loads(os.environ.get("ATTRIBUTES", "{}")).items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.running = self.finished = 0

    def note(self, what: str) -> None:
        with Path("notes").open("a") as notes:
            notes.write(f"{what} {os.getpid()} {time.monotonic()}\n")

    def on_service_start(self) -> None:
        self.note("started")
        if self.fails_in == "start":
            raise RuntimeError("the database is not there")
        if self.fails_in == "exit":
            sys.exit("the database is not there")
        if self.stops_in == "a start hook":
            self.stop()
        if self.dies_after is not None and Path("dying").exists():
            gevent.spawn_later(self.dies_after, os.kill, os.getpid(), signal.SIGKILL)
        # In one piece: the workers share it. Ports are looked for in URLs without TLS.
        sys.stdout.write(f"{self.url.replace('https', 'http')}\n")

    def on_service_stop(self) -> None:
        self.note("stopped")
        sys.stdout.write(f"stopped after {self.finished}\n")

    @gemstone_sync.periodic(0.05)
    def tick(self) -> None:
        self.note("tick")
        if self.stops_in == "a periodic task" and Path("bye").exists():
            self.stop()

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @gemstone_sync.exposed_method()
    def count(self) -> int:
        """How often it was called in this greenlet."""
        HERE.calls = getattr(HERE, "calls", 0) + 1
        return HERE.calls

    @gemstone_sync.exposed_method()
    def pid(self) -> int:
        return os.getpid()

    @gemstone_sync.exposed_method()
    def configured(self) -> list:
        return [self.timeout, self.port, sys.argv]

    @gemstone_sync.exposed_method()
    def hold(self, seconds: float = 0.0) -> int:
        """Wait for so long, or for the file ``released``."""
        self.note("holding")
        self.running += 1
        time.sleep(seconds) if seconds else wait_for_file("released")
        self.running -= 1
        self.finished += 1
        return os.getpid()

    @gemstone_sync.exposed_method()
    def burn(self, gate: str) -> None:
        """Never let the event loop run until there is such a file."""
        self.note("burning")
        while not Path(gate).exists():
            pass

    @gemstone_sync.exposed_method()
    def burn_next(self, gate: str) -> None:
        gevent.spawn(self.burn, gate)

    @gemstone_sync.exposed_method()
    def bye(self) -> str:
        Path("bye").touch()
        if self.stops_in == "a call":
            self.stop()
        return "bye"

    @gemstone_sync.exposed_method()
    def leave(self, code: int) -> None:
        os._exit(code)

    @gemstone_sync.route("/stream")
    def stream(self):
        """A page that begins at once and ends with the file ``released``."""

        def pieces():
            yield "begin "
            wait_for_file("released")
            yield "end"

        return flask.Response(pieces(), mimetype="text/plain")


service = Worker()

if __name__ == "__main__":
    service.start()
