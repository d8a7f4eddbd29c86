"""``start(workers=N)``: how it ends, by a signal or by force, and what becomes of the calls."""

import os
import signal

import pytest

from tests.support.http import Connection, call_message, refuses_connections, result_of
from tests.support.waiting import gather, wait_until

from .workers import calls_in_flight, connections_to, is_alive, pids_of_replies


def test_sigterm_drains_every_worker(start_workers):
    service = start_workers(workers=2)
    workers = service.workers()
    with connections_to(service, 10) as idle, calls_in_flight(service, 40) as busy:
        service.program.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        service.release()

        assert pids_of_replies(busy) == workers
        assert service.program.wait() == 0
        assert all(connection.is_ended() for connection in idle)
    assert not any(map(is_alive, workers))
    assert refuses_connections(service.port)
    assert "Traceback" not in service.program.stderr


def test_calls_that_outlast_the_grace_do_not_delay_the_end(start_workers):
    """Their clients keep the connection; the reply has told them not to."""
    service = start_workers(workers=2, drain_grace=0.2, keep_alive_timeout=60)
    with connections_to(service, 10) as idle, calls_in_flight(service, 20) as busy:
        for connection in idle:
            result_of(connection.call("pid"))
        service.program.send_signal(signal.SIGTERM)
        assert all(connection.is_ended() for connection in idle)  # the grace is over
        service.release()
        replies = gather([connection.read_reply for connection in busy])

        assert service.program.wait() == 0
        assert all(reply.closes for reply in replies)


def test_open_connections_are_answered_while_draining(start_workers):
    """For `drain_grace`: what a client sends just then is not lost."""
    service = start_workers(workers=2, drain_grace=20.0, keep_alive_timeout=60)
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


def test_a_call_may_be_sent_while_it_ends(start_workers):
    """Clients that call all the time, and connect anew when told to: an answer, or a refusal
    before anything was sent, never a call that is lost."""
    service = start_workers(workers=2)

    answered = [0] * 8

    def keep_calling(number):
        while True:
            try:
                connection = Connection(service.port)
            except ConnectionRefusedError:
                return
            with connection:
                while True:
                    reply = connection.call("pid")
                    answered[number] += bool(result_of(reply))
                    if reply.closes:
                        break

    def stop():
        wait_until(lambda: min(answered) > 10, "many calls of each")
        service.program.send_signal(signal.SIGTERM)

    gather([stop, *(lambda n=n: keep_calling(n) for n in range(8))])

    assert service.program.wait() == 0


def test_ctrl_c_ends_all_and_finishes_what_runs(start_workers):
    """A terminal sends SIGINT to the whole process group: the parent and each worker get it."""
    service = start_workers(workers=2)
    workers = service.workers()
    with calls_in_flight(service, 20) as busy:
        os.killpg(service.parent, signal.SIGINT)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        service.release()

        assert pids_of_replies(busy) == workers
    assert service.program.wait() == 0
    assert {note.pid for note in service.notes("stopped")} == workers


def test_a_second_signal_ends_it_at_once(start_workers):
    service = start_workers(workers=2)
    workers = service.workers()
    with calls_in_flight(service, 20):
        service.program.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(service.port), "the first signal's effect")
        service.program.send_signal(signal.SIGTERM)

        service.program.wait()
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_when_time_is_over(start_workers):
    """`stop_timeout` and the five seconds that the parent adds."""
    service = start_workers(workers=2, stop_timeout=0.5)
    workers = service.workers()
    with Connection(service.port) as connection:
        connection.send(call_message("hang"))
        service.wait_for_notes("hanging", 1)

        assert service.program.terminate() == 0
    assert not any(map(is_alive, workers))


def test_workers_stop_when_the_parent_is_killed(start_workers):
    """By kill -9, which it cannot see coming; calls in flight are answered all the same."""
    service = start_workers(workers=2)
    workers = service.workers()
    with calls_in_flight(service, 20) as busy:
        service.program.send_signal(signal.SIGKILL)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        service.release()

        assert pids_of_replies(busy) == workers
    wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers")
    assert refuses_connections(service.port)
    assert {note.pid for note in service.notes("stopped")} == workers


def test_the_address_is_free_again(start_workers, run_workers):
    first = start_workers(workers=2)
    assert first.program.terminate() == 0

    second = run_workers(workers=2, port=first.port)

    assert second.program.wait_until_ready() == first.port
    assert second.program.terminate() == 0
