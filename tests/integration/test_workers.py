"""``start(workers=N)``: one address, several processes, and a parent that looks after them."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import gemstone_sync
from tests.support.http import Connection, call, call_message, is_ready, result_of
from tests.support.programs import program
from tests.support.waiting import LIMIT, gather, wait_until

from .workers import SERVICE, Service, is_alive

# Serving


def test_calls_are_spread_over_the_workers(start_workers):
    service = start_workers(workers=3)
    workers = service.workers()
    assert len(workers) == 3

    pids = gather([lambda: result_of(call(service.port, "hold", 0.05))] * 60)

    assert set(pids) == workers
    assert service.parent not in workers


def test_one_port_for_all(start_workers):
    service = start_workers(workers=3)

    assert len(set(service.program.wait_for_ports(3))) == 1


def test_the_hooks_run_in_each_worker(start_workers):
    service = start_workers(workers=2)
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


def test_one_worker_is_the_process_itself(start_workers):
    service = start_workers(workers=1)

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


def test_a_killed_worker_is_replaced(start_workers):
    service = start_workers(workers=2)
    before = service.workers()
    killed = min(before)

    os.kill(killed, signal.SIGKILL)
    after = service.wait_for_workers(2, but=[killed])

    assert len(after) == 2
    assert before & after == before - {killed}
    assert "signal 9" in service.program.stderr
    assert service.program.terminate() == 0


def test_the_others_answer_while_a_worker_is_replaced(start_workers):
    service = start_workers(workers=2)
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
def test_a_worker_that_leaves_is_replaced(start_workers, code):
    """Whatever its exit code: it had started."""
    service = start_workers(workers=2)
    with Connection(service.port) as connection:
        left = result_of(connection.call("pid"))
        connection.send(call_message("leave", code))
        assert connection.is_ended()

    assert len(service.wait_for_workers(2, but=[left])) == 2
    assert f"exit code {code}" in service.program.stderr
    assert service.program.terminate() == 0


@pytest.mark.slow
def test_a_worker_that_dies_at_once_is_started_again_ever_more_slowly(start_workers, tmp_path):
    """One of two: the other answers meanwhile. The pauses double."""
    service = start_workers(workers=2, dies_after=0.0)
    killed, survivor = sorted(service.workers())
    (tmp_path / "dying").touch()

    with connection_to(service, survivor) as connection:
        os.kill(killed, signal.SIGKILL)
        # The first two are the healthy beginning.
        starts = [note.time for note in service.wait_for_notes("started", 2 + 5)][2:]
        assert result_of(connection.call("pid")) == survivor

    # 0.0 for the first one on a machine so busy that it had lived for long enough.
    told = [float(pause) for pause in re.findall(r"in ([\d.]+) s", service.program.stderr)]
    assert told[0] in (0.0, 0.1)
    assert [round(later, 1) for later in told[1:5]] == [max(0.1, 2 * pause) for pause in told[:4]]
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    for pause, wanted in zip(pauses, told[1:], strict=False):
        assert wanted <= pause < wanted + 10.0, pauses
    (tmp_path / "dying").unlink()
    assert len(service.wait_for_workers(2, but=[killed])) == 2
    assert service.program.terminate() == 0


@pytest.mark.slow
def test_sigterm_is_obeyed_while_a_worker_waits_for_its_new_start(start_workers, tmp_path):
    service = start_workers(workers=2, dies_after=0.0)
    (tmp_path / "dying").touch()
    os.kill(min(service.workers()), signal.SIGKILL)
    service.wait_for_notes("started", 2 + 4)

    assert service.program.terminate() == 0


# Workers that cannot start


@pytest.mark.parametrize("how", ["start", "exit"])
def test_a_worker_that_cannot_start_ends_everything(run_workers, how):
    """Because its start hook raises, or says sys.exit("why")."""
    service = run_workers(workers=2, fails_in=how)

    assert service.program.wait() == 1
    assert "the database is not there" in service.program.stderr
    assert len(service.notes("started")) <= 2  # nobody tries again
    assert not any(is_alive(note.pid) for note in service.notes("started"))


def test_a_certificate_that_is_not_there_ends_everything(run_workers):
    service = run_workers(workers=2, certfile="/nowhere/server.pem")

    assert service.program.wait() == 1
    assert "/nowhere/server.pem" in service.program.stderr
    assert "Traceback" not in service.program.stderr


def test_a_port_in_use_ends_it_with_one_line(start_workers, run_workers):
    first = start_workers(workers=2)

    second = run_workers(workers=2, port=first.port)

    assert second.program.wait() == 1
    assert second.program.stderr.count("\n") == 1
    assert str(first.port) in second.program.stderr
    assert first.answering() <= first.workers()


# Periodic tasks


def ticking(service, ticks=10):
    """The processes in which periodic tasks run from now on."""
    before = len(service.notes("tick"))
    return {note.pid for note in service.wait_for_notes("tick", before + ticks)[before:]}


def test_periodic_tasks_run_in_one_worker_and_move_when_it_dies(start_workers):
    service = start_workers(workers=3)
    service.wait_for_notes("tick", 10)
    [first] = {note.pid for note in service.notes("tick")}

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first), "the end of the worker")
    [second] = ticking(service)

    assert second != first
    assert service.program.terminate() == 0


def test_periodic_tasks_in_each_worker_when_asked(start_workers):
    service = start_workers(workers=2, periodic_scope="worker")

    service.program.wait_until(lambda: ticking(service) == service.workers(), "ticks in both")
    assert service.program.terminate() == 0


def test_periodic_tasks_stop_with_the_service(start_workers):
    service = start_workers(workers=2)
    service.wait_for_notes("tick", 3)
    assert service.program.terminate() == 0

    assert max(note.time for note in service.notes("tick")) < min(
        note.time for note in service.notes("stopped") if note.pid == service.notes("tick")[0].pid
    )


def test_two_instances_have_a_worker_each_that_does_it(start_workers, tmp_path):
    """An instance is a name at an address."""
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    first = start_workers(workers=2)
    with program(SERVICE, other_folder, str(other_folder), "workers=2") as started:
        second = Service(started, other_folder)
        assert len(ticking(first)) == len(ticking(second)) == 1
        assert started.terminate() == 0


# Health


def test_health_of_every_worker(start_workers):
    service = start_workers(workers=2)

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
