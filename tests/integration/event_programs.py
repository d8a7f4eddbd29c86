"""An emitter and a worker, each a process, which write down what was confirmed and what was done.

::

    python event_programs.py emit CONFIRMED FIRST COUNT [work [HELD]]
    python event_programs.py work DONE

The last ``HELD`` events are emitted once there is a file ``CONFIRMED.go``.

Where the broker is comes from the environment: ``EVENTS_URL``, and ``EVENTS_OPTIONS``, a JSON
object of the transport's options. ``WORKER`` is a JSON object: ``seconds`` that a job takes,
``gate`` for a file that jobs wait for, having written their numbers to ``GATE.begun``,
``deduplication`` for a handler that is not idempotent, ``name`` of the service, ``effects`` for a
SQLite file in which the effect and the mark that it was handled are one transaction, ``poison`` for
the number of a job that kills its process.
"""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time

import gemstone_sync
from gemstone_sync import EventEmitter, MicroService, current_event, event_handler

# Nothing service-side was used so far.
from gemstone_sync.concurrency import patch
from gemstone_sync.event import SqliteProcessedEvents, deduplication_key

URL = os.environ["EVENTS_URL"]
OPTIONS = json.loads(os.environ.get("EVENTS_OPTIONS", "{}"))
WORKER = json.loads(os.environ.get("WORKER", "{}"))

#: Greenlets that emit at once.
EMITTERS = 50


class Record:
    """A file that many processes append whole lines to, and which a kill does not tear."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, line):
        os.write(self._file, f"{line}\n".encode())


def emit(path, first, count, kind="broadcast", held="0"):
    """Emit so many events, and write down the number of each that was confirmed."""
    from gevent.pool import Pool

    confirmed = Record(path)
    with EventEmitter(URL, name="emitter", timeout=120, **OPTIONS) as emitter:

        def one(number):
            emitter.emit_event("job", number, broadcast=kind == "broadcast")
            confirmed.add(number)

        end = int(first) + int(count)
        pool = Pool(EMITTERS)
        pool.map(one, range(int(first), end - int(held)))
        while int(held) and not os.path.exists(f"{path}.go"):
            time.sleep(0.02)
        pool.map(one, range(end - int(held), end))
    print("done", flush=True)


class Worker(MicroService):
    """Does jobs, and writes down which."""

    name = WORKER.get("name", "worker")
    port = 0
    skip_configuration = True
    event_transports = [gemstone_sync.transport_from_url(URL, **OPTIONS)]
    event_deduplication = WORKER.get("deduplication")
    if "effects" in WORKER:
        event_deduplication = SqliteProcessedEvents(WORKER["effects"])

    def on_service_start(self):
        self.done = Record(sys.argv[2])
        if "gate" in WORKER:
            self.begun = Record(f"{WORKER['gate']}.begun")
        print(self.url, flush=True)

    @event_handler("job", idempotent=event_deduplication is None, retries=20)
    def do(self, number: int) -> None:
        if "gate" in WORKER:
            self.begun.add(number)
            while not os.path.exists(WORKER["gate"]):
                time.sleep(0.02)
        time.sleep(WORKER.get("seconds", 0.0))
        if number == WORKER.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        if "effects" in WORKER:
            connection = sqlite3.connect(WORKER["effects"], timeout=20)
            with contextlib.closing(connection), connection:
                connection.execute("INSERT INTO effects VALUES (?)", [number])
                self.event_deduplication.record(connection, deduplication_key())
        self.done.add(f"{number} {current_event().id}")

    @gemstone_sync.exposed_method()
    def trivial(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    patch()
    if sys.argv[1] == "emit":
        emit(*sys.argv[2:])
    else:
        Worker().start()
