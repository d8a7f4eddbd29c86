"""The processes of a service, looked at from outside: its program's children and their notes."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.http import Connection, call, call_message, is_ready, result_of
from tests.support.programs import gunicorn, is_alive, program
from tests.support.waiting import gather

SERVICE = Path(__file__).with_name("service.py")

CERTIFICATE = str(SERVICE.parents[1] / "data" / "localhost.pem")

#: gunicorn's processes, our server in them.
OURS = "gemstone_sync.server.GunicornWorker"


class Note(NamedTuple):
    """What a process of the service wrote down."""

    what: str
    pid: int
    time: float


class Processes:
    """The service of `service.py` as it runs in a folder."""

    def __init__(self, started, folder):
        self.program = started
        self.folder = folder

    @property
    def port(self):
        return self.program.port

    @property
    def parent(self):
        return self.program.process.pid

    def notes(self, what):
        try:
            lines = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [line.split() for line in lines if line.startswith(f"{what} ")]
        return [Note(name, int(pid), float(moment)) for name, pid, moment in found]

    def pids(self, what):
        """The processes that noted this."""
        return {note.pid for note in self.notes(what)}

    def wait_for_notes(self, what, count):
        self.program.wait_until(lambda: len(self.notes(what)) >= count, f"{count} notes: {what}")
        return self.notes(what)

    def ticking(self):
        """The processes in which periodic tasks run from now on."""
        before = len(self.notes("tick"))
        return {note.pid for note in self.wait_for_notes("tick", before + 10)[before:]}

    def release(self):
        """End the calls of `hold`."""
        (self.folder / "released").touch()

    def workers(self):
        """The parent's children that live, by the system's own account."""
        children = Path(f"/proc/{self.parent}/task/{self.parent}/children")
        try:
            return {int(pid) for pid in children.read_text().split() if is_alive(int(pid))}
        except FileNotFoundError:
            return set()

    def answering(self):
        """The processes that answer just now, of 20 calls at once."""
        return set(gather([self._pid] * 20)) - {None}

    def _pid(self):
        """None when nobody answers just now."""
        try:
            return result_of(call(self.port, "pid"))
        except (OSError, AssertionError):
            return None

    def wait_for_workers(self, count, but=()):
        """Wait until that many workers answer, none of them in `but`."""
        seen = set()

        def all_seen():
            seen.update(self.answering() - set(but))
            return len(seen & self.workers()) >= count

        self.program.wait_until(all_seen, f"answers of {count} workers")
        return seen & self.workers()

    def connection_to(self, pid):
        """A connection that this worker holds."""

        def found():
            connection = Connection(self.port)
            if result_of(connection.call("pid")) == pid:
                return connection
            connection.socket.close()
            return None

        return self.program.wait_until(found, f"a connection to {pid}")


@contextlib.contextmanager
def start(folder, *options, under=None, workers=1, ready=is_ready, **attributes) -> Iterator:
    """Run the service, by itself or under gunicorn with these workers; gives its `Processes`.

    :param options: of gunicorn.
    :param ready: says of a port whether the service is ready; None waits for nothing.
    """
    folder.mkdir(exist_ok=True)
    if under is None:
        environment = {"ATTRIBUTES": json.dumps({"workers": workers, **attributes})}
        running = program(SERVICE, folder, environment=environment)
    else:
        words = ["--pythonpath", str(SERVICE.parent), "-k", under, "-w", str(workers), *options]
        environment = {"ATTRIBUTES": json.dumps(attributes)}
        running = gunicorn("service:service", folder, *words, environment=environment)
    with running as started:
        processes = Processes(started, folder)
        if ready is not None:
            if under is None:
                started.wait_for_ports(workers)
            started.wait_until(lambda: ready(started.port), "the first answer")
            # gunicorn loses a signal that comes while a worker boots.
            processes.wait_for_notes("started", workers)
        yield processes


class TlsConnection(Connection):
    """Speaks TLS, and knows the test's certificate."""

    def __init__(self, port):
        super().__init__(port)
        context = ssl.create_default_context(cafile=CERTIFICATE)
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")


@contextlib.contextmanager
def connections_to(port, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Connection(port)) for _ in range(count)]


@contextlib.contextmanager
def calls_in_flight(service, connect=Connection):
    """Connections with a call in flight each, one at least in every worker, until released."""
    workers = service.workers()
    busy = []
    with contextlib.ExitStack() as stack:

        def all_are_busy():
            busy.append(stack.enter_context(connect(service.port)))
            busy[-1].send(call_message("hold"))
            return service.wait_for_notes("holding", len(busy)) and workers == service.pids(
                "holding"
            )

        service.program.wait_until(all_are_busy, "a call in each worker")
        yield busy


def pids_of_replies(connections):
    return {result_of(reply) for reply in gather([c.read_reply for c in connections])}
