"""A service for several processes: it tells which process answers, and notes what each does.

    worker_service.py FOLDER [name=value …]

``FOLDER/notes`` has one line for each thing that happened: what, the process, the time. Attributes
are given as JSON.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import gevent

import gemstone_sync


class Worker(gemstone_sync.MicroService):
    name = "worker"
    port = 0
    skip_configuration = True
    #: Where notes go; what goes wrong, and in whom.
    folder = "."
    fails_in: str | None = None
    dies_after: float | None = None

    def note(self, what: str) -> None:
        with Path(self.folder, "notes").open("a") as notes:
            notes.write(f"{what} {os.getpid()} {time.monotonic()}\n")

    def on_service_start(self) -> None:
        self.note("started")
        if self.fails_in == "start":
            raise RuntimeError("the database is not there")
        if self.fails_in == "exit":
            sys.exit("the database is not there")
        if self.dies_after is not None and Path(self.folder, "dying").exists():
            gevent.spawn_later(self.dies_after, os.kill, os.getpid(), signal.SIGKILL)
        sys.stdout.write(f"{self.url}\n")  # in one piece: the workers share it

    def on_service_stop(self) -> None:
        self.note("stopped")

    @gemstone_sync.periodic(0.05)
    def tick(self) -> None:
        self.note("tick")

    @gemstone_sync.exposed_method()
    def pid(self) -> int:
        return os.getpid()

    @gemstone_sync.exposed_method()
    def hold(self, seconds: float) -> int:
        self.note("holding")
        time.sleep(seconds)
        return os.getpid()

    @gemstone_sync.exposed_method()
    def hold_until_released(self) -> int:
        """Wait for ``FOLDER/released``."""
        self.note("holding")
        while not Path(self.folder, "released").exists():
            time.sleep(0.02)
        return os.getpid()

    @gemstone_sync.exposed_method()
    def hang(self) -> None:
        """Never let the event loop run again."""
        self.note("hanging")
        while True:
            pass

    @gemstone_sync.exposed_method()
    def leave(self, code: int) -> None:
        os._exit(code)


service = Worker()

if __name__ == "__main__":
    service.folder = sys.argv[1]
    for word in sys.argv[2:]:
        name, _, value = word.partition("=")
        setattr(service, name, json.loads(value))
    service.start()
