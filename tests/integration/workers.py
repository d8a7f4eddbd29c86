"""What the tests of several processes share: the service of `worker_service.py`, looked at from
outside."""

import contextlib
from pathlib import Path
from typing import NamedTuple

from tests.support.http import Connection, call, call_message, result_of
from tests.support.waiting import gather

SERVICE = Path(__file__).with_name("worker_service.py")


class Note(NamedTuple):
    """What a worker wrote down."""

    what: str
    pid: int
    time: float


class Service:
    """The service's processes."""

    def __init__(self, started, folder):
        self.program = started
        self.folder = folder
        self.port = 0

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

    def wait_for_notes(self, what, count):
        self.program.wait_until(lambda: len(self.notes(what)) >= count, f"{count} notes: {what}")
        return self.notes(what)

    def release(self):
        """End the calls of `calls_in_flight`."""
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
        return set(gather([self._pid] * 20))

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
            seen.update(self.answering())
            return len((seen - set(but)) & self.workers()) == count

        self.program.wait_until(all_seen, f"answers of {count} workers")
        return self.workers()


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextlib.contextmanager
def connections_to(service, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Connection(service.port)) for _ in range(count)]


@contextlib.contextmanager
def calls_in_flight(service, count):
    """Connections with a call in flight each, in every worker, until they are released."""
    with connections_to(service, count) as connections:
        for connection in connections:
            connection.send(call_message("hold_until_released"))
        held = service.wait_for_notes("holding", count)
        assert {note.pid for note in held} == service.workers()
        yield connections


def pids_of_replies(connections):
    return {result_of(reply) for reply in gather([c.read_reply for c in connections])}
