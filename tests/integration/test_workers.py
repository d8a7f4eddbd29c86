"""``start(workers=N)``: one address, several processes, and a parent that looks after them."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import gevent
import pytest

import gemstone_sync
from tests.helpers import (
    LIMIT,
    Connection,
    call,
    call_message,
    gather,
    is_ready,
    program,
    refuses_connections,
    result_of,
    wait_until,
)

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


@pytest.fixture
def run(tmp_path):
    """Run the service with attributes; nothing is waited for."""
    with contextlib.ExitStack() as stack:

        def run(**attributes):
            words = [f"{name}={to_json(value)}" for name, value in attributes.items()]
            started = stack.enter_context(program(SERVICE, tmp_path, str(tmp_path), *words))
            return Service(started, tmp_path)

        yield run


def to_json(value):
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture
def start(run):
    """Run the service with attributes, and wait until all its workers have started."""

    def start(workers=2, **attributes):
        service = run(workers=workers, **attributes)
        service.port = service.program.wait_for_ports(workers)[-1]
        service.wait_for_notes("started", workers)
        return service

    return start


# Serving


def test_calls_are_spread_over_the_workers(start):
    service = start(workers=3)
    workers = service.workers()
    assert len(workers) == 3

    pids = gather([lambda: result_of(call(service.port, "hold", 0.05))] * 60)

    assert set(pids) == workers
    assert service.parent not in workers


def test_one_port_for_all(start):
    service = start(workers=3)

    assert len(set(service.program.wait_for_ports(3))) == 1


def test_the_hooks_run_in_each_worker(start):
    service = start(workers=2)
    workers = service.workers()

    assert {note.pid for note in service.notes("started")} == workers
    assert service.program.terminate() == 0
    assert {note.pid for note in service.notes("stopped")} == workers


def test_start_takes_the_number_too(tmp_path):
    source = SERVICE.read_text().replace("service.start()", "service.start(workers=2)")

    with program(source, tmp_path, str(tmp_path)) as started:
        service = Service(started, tmp_path)
        service.port = started.wait_for_ports(2)[-1]
        service.wait_for_workers(2)
        assert started.terminate() == 0


def test_one_worker_is_the_process_itself(start):
    service = start(workers=1)

    assert service.answering() == {service.parent}
    assert service.program.terminate() == 0


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", None, True])
def test_a_number_that_is_none_is_refused(make_service, workers):
    service = make_service(workers=workers)

    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="workers"):
        service.app  # noqa: B018


def test_several_workers_need_a_start_that_blocks(make_service):
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="block"):
        make_service(port=0).start(block=False, workers=2)


# Workers that die


def test_a_killed_worker_is_replaced(start):
    service = start(workers=2)
    before = service.workers()
    killed = min(before)

    os.kill(killed, signal.SIGKILL)
    after = service.wait_for_workers(2, but=[killed])

    assert len(after) == 2
    assert before & after == before - {killed}
    assert "signal 9" in service.program.stderr
    assert service.program.terminate() == 0


def test_the_others_answer_while_a_worker_is_replaced(start):
    service = start(workers=2)
    killed, survivor = sorted(service.workers())
    connection = connection_to(service, survivor)

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_alive(killed), "the end of the worker")

    with connection:
        for _ in range(20):
            assert result_of(connection.call("pid")) == survivor


def connection_to(service, pid):
    """A connection that this worker holds."""
    end = time.monotonic() + LIMIT
    while True:
        connection = Connection(service.port)
        if result_of(connection.call("pid")) == pid:
            return connection
        connection.socket.close()
        assert time.monotonic() < end, f"no connection to {pid}"


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_a_worker_that_leaves_is_replaced(start, code):
    """Whatever its exit code: it had started."""
    service = start(workers=2)
    with Connection(service.port) as connection:
        left = result_of(connection.call("pid"))
        connection.send(call_message("leave", code))
        assert connection.is_ended()

    assert len(service.wait_for_workers(2, but=[left])) == 2
    assert f"exit code {code}" in service.program.stderr
    assert service.program.terminate() == 0


@pytest.mark.slow
def test_a_worker_that_dies_at_once_is_started_again_ever_more_slowly(start, tmp_path):
    """One of two: the other answers meanwhile. The pauses double."""
    service = start(workers=2, dies_after=0.0)
    killed, survivor = sorted(service.workers())
    (tmp_path / "dying").touch()

    with connection_to(service, survivor) as connection:
        os.kill(killed, signal.SIGKILL)
        # The first two are the healthy beginning.
        starts = [note.time for note in service.wait_for_notes("started", 2 + 5)][2:]
        assert result_of(connection.call("pid")) == survivor

    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    for pause, wanted in zip(pauses, (0.2, 0.4, 0.8, 1.6), strict=False):
        assert wanted <= pause < wanted + 2.0, pauses
    (tmp_path / "dying").unlink()
    assert len(service.wait_for_workers(2, but=[killed])) == 2
    assert service.program.terminate() == 0


@pytest.mark.slow
def test_sigterm_is_obeyed_while_a_worker_waits_for_its_new_start(start, tmp_path):
    service = start(workers=2, dies_after=0.0)
    (tmp_path / "dying").touch()
    os.kill(min(service.workers()), signal.SIGKILL)
    service.wait_for_notes("started", 2 + 4)

    assert service.program.terminate(limit=5.0) == 0


# Workers that cannot start


@pytest.mark.parametrize("how", ["start", "exit"])
def test_a_worker_that_cannot_start_ends_everything(run, how):
    """Because its start hook raises, or says sys.exit("why")."""
    service = run(workers=2, fails_in=how)

    assert service.program.wait() == 1
    assert "the database is not there" in service.program.stderr
    assert len(service.notes("started")) <= 2  # nobody tries again
    assert not any(is_alive(note.pid) for note in service.notes("started"))


def test_a_certificate_that_is_not_there_ends_everything(run):
    service = run(workers=2, certfile="/nowhere/server.pem")

    assert service.program.wait() == 1
    assert "/nowhere/server.pem" in service.program.stderr
    assert "Traceback" not in service.program.stderr


def test_a_port_in_use_ends_it_with_one_line(start, run):
    first = start(workers=2)

    second = run(workers=2, port=first.port)

    assert second.program.wait() == 1
    assert second.program.stderr.count("\n") == 1
    assert str(first.port) in second.program.stderr
    assert first.answering() <= first.workers()


# The end


@contextlib.contextmanager
def connections_to(service, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Connection(service.port)) for _ in range(count)]


@contextlib.contextmanager
def calls_in_flight(service, count, seconds):
    """Connections with a call in flight each, in every worker."""
    with connections_to(service, count) as connections:
        for connection in connections:
            connection.send(call_message("hold", seconds))
        held = service.wait_for_notes("holding", count)
        assert {note.pid for note in held} == service.workers()
        yield connections


def pids_of_replies(connections):
    return {result_of(reply) for reply in gather([c.read_reply for c in connections])}


def test_sigterm_drains_every_worker(start):
    service = start(workers=2)
    workers = service.workers()
    with connections_to(service, 10) as idle, calls_in_flight(service, 40, 1.0) as busy:
        service.program.send_signal(signal.SIGTERM)

        assert pids_of_replies(busy) == workers
        assert service.program.wait() == 0
        assert all(connection.is_ended() for connection in idle)
    assert not any(map(is_alive, workers))
    assert refuses_connections(service.port)
    assert "Traceback" not in service.program.stderr


def test_calls_that_outlast_the_grace_do_not_delay_the_end(start):
    """Their clients keep the connection; the reply has told them not to."""
    service = start(workers=2, drain_grace=0.2)
    with calls_in_flight(service, 20, 1.5) as busy:
        service.program.send_signal(signal.SIGTERM)
        replies = gather([connection.read_reply for connection in busy])
        answered = time.monotonic()

        assert service.program.wait() == 0
        assert time.monotonic() - answered < 2.0
        assert all(reply.closes for reply in replies)


def test_open_connections_are_answered_while_draining(start):
    """For `drain_grace`: what a client sends just then is not lost."""
    service = start(workers=2, drain_grace=2.0)
    with connections_to(service, 20) as connections:
        for connection in connections:
            result_of(connection.call("pid"))
        service.program.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        for connection in connections:
            reply = connection.call("pid")
            assert result_of(reply)
            assert reply.closes
        assert service.program.wait() == 0


def test_a_call_may_be_sent_while_it_ends(start):
    """Clients that call all the time, and connect anew when told to: an answer, or a refusal
    before anything was sent, never a call that is lost."""
    service = start(workers=2)

    def keep_calling():
        answered = 0
        while True:
            try:
                connection = Connection(service.port)
            except ConnectionRefusedError:
                return answered
            with connection:
                while True:
                    reply = connection.call("pid")
                    answered += bool(result_of(reply))
                    if reply.closes:
                        break

    gevent.spawn_later(0.5, service.program.send_signal, signal.SIGTERM)

    assert all(answered > 10 for answered in gather([keep_calling] * 8))
    assert service.program.wait() == 0


def test_ctrl_c_ends_all_and_finishes_what_runs(start):
    """A terminal sends SIGINT to the whole process group: the parent and each worker get it."""
    service = start(workers=2)
    workers = service.workers()
    with calls_in_flight(service, 20, 1.0) as busy:
        os.killpg(service.parent, signal.SIGINT)

        assert pids_of_replies(busy) == workers
    assert service.program.wait() == 0
    assert {note.pid for note in service.notes("stopped")} == workers


def test_a_second_signal_ends_it_at_once(start):
    service = start(workers=2)
    workers = service.workers()
    with calls_in_flight(service, 20, 30.0):
        service.program.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(service.port), "the first signal's effect")
        service.program.send_signal(signal.SIGTERM)

        service.program.wait(limit=5.0)
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_when_time_is_over(start):
    """`stop_timeout` and the five seconds that the parent adds."""
    service = start(workers=2, stop_timeout=0.5)
    workers = service.workers()
    with Connection(service.port) as connection:
        connection.send(call_message("hang"))
        service.wait_for_notes("hanging", 1)

        assert service.program.terminate() == 0
    assert not any(map(is_alive, workers))


def test_workers_stop_when_the_parent_is_killed(start):
    """By kill -9, which it cannot see coming; calls in flight are answered all the same."""
    service = start(workers=2)
    workers = service.workers()
    with calls_in_flight(service, 20, 2.0) as busy:
        service.program.send_signal(signal.SIGKILL)

        assert pids_of_replies(busy) == workers
    wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers")
    assert refuses_connections(service.port)
    assert {note.pid for note in service.notes("stopped")} == workers


def test_the_address_is_free_again(start, run):
    first = start(workers=2)
    assert first.program.terminate() == 0

    second = run(workers=2, port=first.port)

    assert second.program.wait_until_ready() == first.port
    assert second.program.terminate() == 0


# Periodic tasks


def ticking(service, ticks=10):
    """The processes in which periodic tasks run from now on."""
    before = len(service.notes("tick"))
    return {note.pid for note in service.wait_for_notes("tick", before + ticks)[before:]}


def test_periodic_tasks_run_in_one_worker_and_move_when_it_dies(start):
    service = start(workers=3)
    service.wait_for_notes("tick", 10)
    [first] = {note.pid for note in service.notes("tick")}

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first), "the end of the worker")
    [second] = ticking(service)

    assert second != first
    assert service.program.terminate() == 0


def test_periodic_tasks_in_each_worker_when_asked(start):
    service = start(workers=2, periodic_scope="worker")

    service.program.wait_until(lambda: ticking(service) == service.workers(), "ticks in both")
    assert service.program.terminate() == 0


def test_periodic_tasks_stop_with_the_service(start):
    service = start(workers=2)
    service.wait_for_notes("tick", 3)
    assert service.program.terminate() == 0

    assert max(note.time for note in service.notes("tick")) < min(
        note.time for note in service.notes("stopped") if note.pid == service.notes("tick")[0].pid
    )


def test_two_instances_have_a_worker_each_that_does_it(start, tmp_path):
    """An instance is a name at an address."""
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    first = start(workers=2)
    with program(SERVICE, other_folder, str(other_folder), "workers=2") as started:
        second = Service(started, other_folder)
        assert len(ticking(first)) == len(ticking(second)) == 1
        assert started.terminate() == 0


# Health


def test_health_of_every_worker(start):
    service = start(workers=2)

    assert all(gather([lambda: is_ready(service.port)] * 20))


def test_output_and_interpreter_are_clean(tmp_path):
    """No warnings of Python's about forking: nothing has started a thread before."""
    source = SERVICE.read_text()
    (tmp_path / "program.py").write_text(source)
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py"), str(tmp_path)]
    with subprocess.Popen([*command, "workers=2"], stderr=subprocess.PIPE, text=True) as process:
        service = Service(None, tmp_path)
        wait_until(lambda: len(service.notes("tick")) > 3, "the first ticks")
        process.terminate()
        errors = process.communicate(timeout=LIMIT)[1]

    assert process.returncode == 0
    assert "Warning" not in errors
    assert "Traceback" not in errors
