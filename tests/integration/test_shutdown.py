"""Stopping a service that is in use: no answer is lost, and it does not take long.

A service promises to be gone soon. Here it has more time, as the machine may be busy: what would
hold it up, an idle connection or a missed one, does so for the 60 s that connections are kept here,
or for its `stop_timeout` of 30 s.
"""

import signal

import pytest

from tests.support.http import Connection, call_message, message, refuses_connections, result_of
from tests.support.waiting import wait_until

from .processes import connections_to, start

SOON = 15.0

KEPT = {"keep_alive_timeout": 60.0, "header_timeout": 60.0}


def wait_for_the_end_of_listening(service):
    wait_until(lambda: refuses_connections(service.port), "the end of listening")


@pytest.mark.parametrize(
    ("under", "number"),
    [
        (None, signal.SIGTERM),
        pytest.param(None, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(None, signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param("gevent", signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "Ctrl-C", "SIGHUP", "gunicorn"],
)
def test_what_runs_is_finished_and_what_is_idle_is_ended(tmp_path, under, number):
    """Calls in flight, a page that is being sent, idle connections, and others that said nothing.

    The head of the page, sent before the signal, could not say that the connection ends.
    """
    with (
        start(tmp_path, under=under, **KEPT) as service,
        connections_to(service.port, 50) as busy,
        connections_to(service.port, 20) as idle,
        connections_to(service.port, 0 if under else 20) as silent,
        Connection(service.port) as reader,
    ):
        for connection in idle:
            assert result_of(connection.call("add", 1, 2)) == 3
        for connection in busy:
            connection.send(call_message("hold"))
        service.wait_for_notes("holding", 50)
        reader.send(message("GET", "/stream"))
        status, headers = reader.read_head()
        assert status == 200

        service.program.send_signal(number)
        wait_for_the_end_of_listening(service)
        service.release()
        for connection in busy:
            reply = connection.read_reply()
            assert result_of(reply)
            assert reply.closes or under
            assert connection.is_ended()
        assert reader.read_body(headers) == b"begin end"
        assert all(connection.is_ended() for connection in [reader, *idle, *silent])
        assert service.program.wait(SOON) == 0
    assert "stopped after 50" in service.program.stdout  # the last call is over before the hook
    assert "Traceback" not in service.program.stderr


def test_whoever_had_reason_to_think_it_open_is_answered(tmp_path):
    """Connections that wait to be accepted, as the kernel has connected them, and calls that come
    on open ones during the grace; each answer says that the connection ends."""
    with (
        start(tmp_path, drain_grace=20.0, **KEPT) as service,
        connections_to(service.port, 3) as open_before,
        Connection(service.port) as first,
    ):
        for connection in open_before:
            assert result_of(connection.call("add", 1, 2)) == 3
        first.send(call_message("burn", "gate"))
        service.wait_for_notes("burning", 1)
        with connections_to(service.port, 150) as queued:  # more than are accepted in one turn
            for value, connection in enumerate(queued):
                connection.send(call_message("add", value, 0))
            service.program.send_signal(signal.SIGTERM)
            (tmp_path / "gate").touch()

            assert result_of(first.read_reply()) is None
            answers = [result_of(connection.read_reply()) for connection in queued]
            assert answers == list(range(150))
        wait_for_the_end_of_listening(service)
        for connection in open_before:
            reply = connection.call("add", 2, 3)
            assert result_of(reply) == 5
            assert reply.closes
            assert connection.is_ended()
        # Nothing is open any more, so the rest of the grace is not waited for.
        first.socket.close()
        assert service.program.wait(SOON) == 0


def test_a_second_signal_ends_it_at_once(tmp_path):
    with start(tmp_path, **KEPT) as service, Connection(service.port) as connection:
        connection.send(call_message("hold"))
        service.wait_for_notes("holding", 1)
        assert service.program.insist() == 128 + signal.SIGTERM
