"""Several processes at one address: ``start(workers=N)``, and what gunicorn has in common with it.

What only gunicorn does is in test_gunicorn.py.
"""

import itertools
import os
import re
import signal

import pytest

import gemstone_sync
from tests.support.http import (
    JSON,
    Connection,
    call_body,
    call_message,
    exchange,
    is_ready,
    message,
    refuses_connections,
    result_of,
)
from tests.support.machine import free_port
from tests.support.programs import children_of, is_alive, program
from tests.support.waiting import gather, wait_until

from .processes import OURS, calls_in_flight, connections_to, pids_of_replies, start

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("under", "options", "number"),
    [
        (None, [], signal.SIGTERM),
        (None, [], signal.SIGINT),
        (OURS, [], signal.SIGTERM),
        pytest.param("gevent", [], signal.SIGTERM, marks=slow),  # which ends idle connections late
        pytest.param(OURS, ["--preload"], signal.SIGTERM, marks=slow),
        pytest.param("gevent", ["--preload"], signal.SIGTERM, marks=slow),
    ],
    ids=["start", "Ctrl-C", "GunicornWorker", "gevent", "GunicornWorker-preload", "gevent-preload"],
)
def test_every_worker_serves_and_is_drained(tmp_path, monkeypatch, under, options, number):
    """Each runs the hooks, one the periodic tasks; calls in flight are answered in the end."""
    if under is None:
        monkeypatch.setenv("PYTHONWARNINGS", "error")  # Python's about forking beside threads
    with start(tmp_path, "--timeout", "77", *options, under=under, workers=2) as service:
        workers = service.wait_for_workers(2)
        assert workers == service.workers() == service.pids("started")
        assert len(workers - {service.parent}) == 2
        assert all(gather([lambda: is_ready(service.port)] * 20))
        assert_it_is_the_service(service, under)
        assert len(service.ticking()) == 1

        idle = 0 if under == "gevent" else 10  # gunicorn's own waits for them
        with connections_to(service.port, idle) as idle, calls_in_flight(service) as busy:
            if number == signal.SIGINT:
                # A terminal sends it to the whole process group: the parent and each worker get it.
                os.killpg(service.parent, number)
            else:
                service.program.send_signal(number)
            wait_until(lambda: refuses_connections(service.port), "the end of listening")
            service.release()

            assert pids_of_replies(busy) == workers
            assert service.program.wait() == 0
            assert all(connection.is_ended() for connection in idle)
    assert not any(map(is_alive, workers))
    stopped = {note.pid: note.time for note in service.notes("stopped")}
    assert set(stopped) == workers
    # One that is due in the very turn in which the service stops may still run.
    assert sum(note.time > stopped[note.pid] for note in service.notes("tick")) <= 1
    assert service.program.stderr.count(" INFO worker stopped\n") == 2
    assert "Traceback" not in service.program.stderr
    assert "Warning" not in service.program.stderr


def assert_it_is_the_service(service, under):
    with Connection(service.port) as connection:
        assert connection.exchange(message("GET", "/api")).status == 405
        assert connection.exchange(message("POST", "/api", JSON, b"{")).status == 200
        sums = [result_of(connection.call("add", n, 1)) for n in range(50)]
        assert sums == [n + 1 for n in range(50)]
        timeout, port, argv = result_of(connection.call("configured"))
    if under is None:
        return
    # gunicorn's command line is not the service's.
    assert (timeout, port) == ("unset", 0)
    assert "--timeout" in argv
    # Nor does the service know where gunicorn listens: every host is accepted, but no page.
    for headers, status in (
        ({"Host": "service.example.org"}, 200),
        ({"Host": "10.0.0.7:80"}, 200),
        ({"Origin": "https://evil.example"}, 403),
    ):
        sent = message("POST", "/api", {**JSON, **headers}, call_body("add", 1, 2))
        assert exchange(service.port, sent).status == status


SLOW_STARTS = """
import gemstone_sync, os, time
from pathlib import Path

class Slow(gemstone_sync.MicroService):
    name = "slow"
    port = 0
    skip_configuration = True

    def on_service_start(self):
        print(self.url)
        while not Path("go").exists():
            time.sleep(0.01)

    @gemstone_sync.exposed_method()
    def pid(self):
        return os.getpid()

Slow().start(workers=3)
"""


def test_the_line_that_it_listens_comes_when_all_answer(tmp_path):
    with program(SLOW_STARTS, tmp_path) as started:
        started.wait_for_ports(3)
        assert "listens on" not in started.stderr
        assert exchange(started.port, call_message("pid")).status == 503
        (tmp_path / "go").touch()
        started.wait_until(lambda: "with 3 workers\n" in started.stderr, "the line")
        calls = [lambda: exchange(started.port, call_message("pid")).status] * 60
        assert set(gather(calls)) == {200}
        one = next(iter(children_of(started.process.pid)))
        os.kill(one, signal.SIGKILL)
        started.wait_until(lambda: len(re.findall("http", started.stdout)) == 4, "another one")
        started.wait_until(lambda: exchange(started.port, call_message("pid")).status == 200, "it")
        assert started.terminate() == 0
        assert started.stderr.count("listens on") == 1


def test_one_worker_is_the_process_itself(tmp_path):
    with start(tmp_path) as service:
        assert service.answering() == {service.parent}
        assert service.program.terminate() == 0


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two", None, True])
def test_a_number_that_is_none_is_refused(make_service, workers):
    service = make_service(workers=workers)

    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="workers"):
        service.app  # noqa: B018


def test_several_workers_need_a_start_that_blocks(make_service):
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="block"):
        make_service(port=0).start(block=False, workers=2)


# Workers that die


@pytest.mark.parametrize(
    "under",
    [None, pytest.param(OURS, marks=slow), pytest.param("gevent", marks=slow)],
    ids=["start", "GunicornWorker", "gevent"],
)
def test_a_killed_worker_is_replaced(tmp_path, under):
    """The others answer meanwhile, and one of them goes on with the periodic tasks."""
    # Else gunicorn's own ends a connection that is idle for 2 s.
    options = ["--keep-alive", "60"] if under else []
    with start(tmp_path, *options, under=under, workers=2) as service:
        before = service.wait_for_workers(2)
        (killed,) = service.ticking()
        (survivor,) = before - {killed}
        with service.connection_to(survivor) as connection:
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: not is_alive(killed), "the end of the worker")
            for _ in range(20):
                assert result_of(connection.call("pid")) == survivor

        assert service.wait_for_workers(2, but=[killed]) & before == {survivor}
        assert len(service.ticking() - {killed}) == 1
        if under is None:
            assert "signal 9" in service.program.stderr
            for code in (0, 1, 255):  # whatever its exit code: it had started
                leave(service, code)
        assert service.program.terminate() == 0


def leave(service, code):
    with Connection(service.port) as connection:
        left = result_of(connection.call("pid"))
        connection.send(call_message("leave", code))
        assert connection.is_ended()
    service.wait_for_workers(2, but=[left])
    assert f"exit code {code}" in service.program.stderr


@slow  # the pauses
def test_a_worker_that_dies_at_once_is_started_again_ever_more_slowly(tmp_path):
    """One of two: the other answers meanwhile. The pauses double; SIGTERM is obeyed in them."""
    # The connection is idle for the pauses, which are 3 s.
    with start(tmp_path, workers=2, dies_after=0.0, keep_alive_timeout=60.0) as service:
        killed, survivor = sorted(service.workers())
        (tmp_path / "dying").touch()
        with service.connection_to(survivor) as connection:
            os.kill(killed, signal.SIGKILL)
            # The first two are the healthy beginning.
            starts = [note.time for note in service.wait_for_notes("started", 2 + 5)][2:]
            assert result_of(connection.call("pid")) == survivor

        # 0.0 for the first one on a machine so busy that it had lived for long enough.
        told = [float(pause) for pause in re.findall(r"in ([\d.]+) s", service.program.stderr)]
        assert told[0] in (0.0, 0.1)
        expected = [max(0.1, 2 * pause) for pause in told[:4]]
        assert [round(later, 1) for later in told[1:5]] == expected
        pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
        for pause, wanted in zip(pauses, told[1:], strict=False):
            assert wanted <= pause < wanted + 10.0, pauses

        (tmp_path / "dying").unlink()
        service.wait_for_workers(2, but=[killed])
        (tmp_path / "dying").touch()
        os.kill(survivor, signal.SIGKILL)
        service.wait_for_notes("started", len(service.notes("started")) + 2)
        assert service.program.terminate() == 0


@slow  # a kill
def test_workers_stop_when_the_parent_is_killed(tmp_path):
    """By kill -9, which it cannot see coming; calls in flight are answered all the same."""
    with start(tmp_path, workers=2, periodic_scope="worker") as service:
        workers = service.workers()
        service.program.wait_until(lambda: service.ticking() == workers, "ticks in each worker")
        with calls_in_flight(service) as busy:
            service.program.send_signal(signal.SIGKILL)
            wait_until(lambda: refuses_connections(service.port), "the end of listening")
            service.release()

            assert pids_of_replies(busy) == workers
        wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers")
        assert refuses_connections(service.port)
        assert service.pids("stopped") == workers


# Workers that cannot start


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"fails_in": "start"}, "the database is not there"),
        pytest.param({"fails_in": "exit"}, "the database is not there", marks=slow),
        pytest.param({"certfile": "/nowhere/server.pem"}, "/nowhere/server.pem", marks=slow),
    ],
    ids=["the start hook raises", "it says sys.exit", "no certificate"],
)
def test_a_worker_that_cannot_start_ends_everything(tmp_path, attributes, reason):
    with start(tmp_path, workers=2, ready=None, **attributes) as service:
        assert service.program.wait() == 1
        assert reason in service.program.stderr
        assert "certfile" not in attributes or "Traceback" not in service.program.stderr
        assert len(service.notes("started")) <= 2  # nobody tries again
        assert not any(map(is_alive, service.pids("started")))


@slow  # four programs
def test_addresses(tmp_path):
    """One in use ends a program with one line; it is free again; an instance is a name at one."""
    # Not one that the system gives to whoever asks for any: it must be free the next moment.
    with start(tmp_path / "first", workers=2, port=free_port()) as first:
        with start(tmp_path / "second", workers=2, port=first.port, ready=None) as second:
            assert second.program.wait() == 1
            assert second.program.stderr.count("\n") == 1
            assert str(first.port) in second.program.stderr
        assert first.answering() <= first.workers()
        with start(tmp_path / "elsewhere", workers=2) as other:
            assert len(first.ticking()) == len(other.ticking()) == 1
        assert first.program.terminate() == 0
    with start(tmp_path / "again", workers=2, port=first.port) as again:
        assert again.port == first.port
        assert again.program.terminate() == 0


# The end


@slow  # the others of its kind are in test_shutdown.py
@pytest.mark.parametrize("grace", [0.2, 20.0])
def test_connections_that_stay_open_at_the_end(tmp_path, grace):
    """Calls that outlast the grace do not delay it: the reply has told their clients to leave.
    What a client sends within the grace is answered."""
    limits = {"drain_grace": grace, "keep_alive_timeout": 60}
    with (
        start(tmp_path, workers=2, **limits) as service,
        connections_to(service.port, 10) as idle,
        calls_in_flight(service) as busy,
    ):
        for connection in idle:
            result_of(connection.call("pid"))
        service.program.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        for connection in idle:
            if grace > 1:
                reply = connection.call("pid")
                assert result_of(reply)
                assert reply.closes
            assert connection.is_ended()  # the grace is over, or it was told
        service.release()
        assert all(reply.closes for reply in gather([c.read_reply for c in busy]))
        assert service.program.wait() == 0


@slow  # many calls
def test_a_call_may_be_sent_while_it_ends(tmp_path):
    """Clients that call all the time, and connect anew when told to: an answer, or a refusal
    before anything was sent, never a call that is lost."""
    # The grace is for a client that has no processor between two of its calls.
    with start(tmp_path, workers=2, drain_grace=20.0) as service:
        answered = [0] * 8

        def keep_calling(number):
            while True:
                try:
                    connection = Connection(service.port)
                except ConnectionRefusedError:
                    return
                with connection:
                    reply = None
                    while reply is None or not reply.closes:
                        reply = connection.call("pid")
                        answered[number] += bool(result_of(reply))

        def stop():
            wait_until(lambda: min(answered) > 10, "many calls of each")
            service.program.send_signal(signal.SIGTERM)

        gather([stop, *(lambda n=n: keep_calling(n) for n in range(8))])
        assert service.program.wait() == 0


@slow  # a kill
@pytest.mark.parametrize("how", ["a second signal", "time is over"])
def test_workers_that_do_not_end_are_killed(tmp_path, how):
    """By a second signal at once; else after `stop_timeout` and the five seconds of the parent."""
    with start(tmp_path, workers=2, stop_timeout=0.5 if how == "time is over" else 60) as service:
        workers = service.workers()
        with Connection(service.port) as connection:
            connection.send(call_message("burn", "never"))
            service.wait_for_notes("burning", 1)
            if how == "a second signal":
                assert service.program.insist() == 128 + signal.SIGTERM
            else:
                assert service.program.terminate() == 0
                # Its calls are lost, and its stop hooks did not run: nobody else says so.
                assert service.program.stderr.count("did not end and was killed") == 1
        assert not any(map(is_alive, workers))
