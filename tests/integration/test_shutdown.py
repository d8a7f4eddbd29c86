"""Stopping a service that is in use: no answer is lost, and it does not take long.

A service promises to be gone soon. Here it has more time, as the machine may be busy: what would
hold it up, an idle connection or a missed one, does so for the 60 s that connections are kept here,
or for its `stop_timeout` of 30 s.
"""

import signal

import pytest

from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.support.http import (
    Connection,
    call,
    call_message,
    exchange,
    message,
    refuses_connections,
    result_of,
)
from tests.support.waiting import gather, wait_until

from .processes import OURS, connections_to, start

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


def ready_status(port):
    return exchange(port, message("GET", "/health/ready")).status


def wait_for_leaving(service):
    """Wait until each of its processes has heard the signal: one may do so later than others."""
    left = set()

    def all_say_so():
        replies = gather([lambda: call(service.port, "pid")] * 20)
        left.update(result_of(reply) for reply in replies if reply.closes)
        return left == service.pids("started")

    service.program.wait_until(all_say_so, "every worker to say that connections end")


@pytest.mark.parametrize(
    ("under", "workers"),
    [
        (None, 1),
        pytest.param(None, 2, marks=pytest.mark.slow),
        pytest.param(OURS, 2, marks=pytest.mark.slow),
    ],
    ids=["alone", "workers", "gunicorn"],
)
def test_whoever_asks_whether_it_is_ready_has_time_to_go_elsewhere(tmp_path, under, workers):
    """Until they notice, calls on open and on new connections are answered, WebSockets opened."""
    options = ["--graceful-timeout", "300"] if under else []
    with (
        start(
            tmp_path, *options, under=under, workers=workers, drain_delay=100.0, **KEPT
        ) as service,
        Connection(service.port) as open_before,
    ):
        assert not open_before.call("add", 1, 2).closes
        service.program.send_signal(signal.SIGTERM)
        wait_for_leaving(service)
        told = lambda: {ready_status(service.port) for _ in range(20)} == {503}  # noqa: E731
        service.program.wait_until(told, "every worker to say that it is not ready")
        for reply in (open_before.call("add", 2, 3), call(service.port, "add", 2, 3)):
            assert result_of(reply) == 5
            assert reply.closes
        assert open_before.is_ended()
        assert exchange(service.port, message("GET", "/health/live")).status == 200


@pytest.mark.slow  # a registry and gunicorn start
@pytest.mark.parametrize("under", [None, OURS])
def test_registries_are_told_before_it_stops(tmp_path, under):
    options = ["--graceful-timeout", "300"] if under else []
    with running_service(ServiceRegistry, token=None) as registry:
        known = lambda: registry.locate_service("worker")  # noqa: E731
        place = {"service_registry_urls": [registry.url], "accessible_at": "http://127.0.0.1:1/api"}
        with start(tmp_path, *options, under=under, drain_delay=100.0, **place) as service:
            service.program.wait_until(known, "an entry in the registry")
            service.program.send_signal(signal.SIGTERM)
            service.program.wait_until(lambda: not known(), "the goodbye")
            assert result_of(call(service.port, "add", 2, 3)) == 5


@pytest.mark.slow  # gunicorn starts, twice
def test_gunicorn_gives_the_grace_that_is_set(tmp_path):
    """One with the default's second ends, and one that was told before it does not yet."""
    options = ["--graceful-timeout", "300"]
    with (
        start(tmp_path / "long", *options, under=OURS, drain_grace=100.0, **KEPT) as long,
        start(tmp_path / "short", under=OURS, **KEPT) as short,
        Connection(long.port) as open_to_long,
        Connection(short.port) as open_to_short,
    ):
        for connection in (open_to_long, open_to_short):
            assert result_of(connection.call("add", 1, 2)) == 3
        long.program.send_signal(signal.SIGTERM)
        wait_for_the_end_of_listening(long)
        assert short.program.terminate(SOON) == 0
        assert result_of(open_to_long.call("add", 2, 3)) == 5


@pytest.mark.parametrize("under", [None, pytest.param(OURS, marks=pytest.mark.slow)])
def test_after_the_delay_it_stops(tmp_path, under):
    with start(tmp_path, under=under, drain_delay=0.2) as service:
        assert service.program.terminate(SOON) == 0
        assert refuses_connections(service.port)
    assert "Traceback" not in service.program.stderr


@pytest.mark.slow  # gunicorn starts, twice
@pytest.mark.parametrize("by", ["SIGHUP", "max_requests"])
def test_a_worker_that_is_replaced_is_never_waited_for(tmp_path, by):
    """The others go on: nobody has reason to go elsewhere."""
    options = ["--graceful-timeout", "300", *["--max-requests", "3"] * (by == "max_requests")]
    # The grace is for a question whose connection the old worker has accepted.
    with start(tmp_path, *options, under=OURS, drain_delay=100.0, drain_grace=20.0) as service:
        (before,) = service.workers()
        if by == "SIGHUP":
            service.program.send_signal(signal.SIGHUP)
        seen = set()

        def replaced():
            if before in service.workers():
                seen.add(ready_status(service.port))
            return before not in service.workers()

        service.program.wait_until(replaced, "the end of the worker", SOON)
        assert seen <= {200}
        service.wait_for_workers(1, but=[before])


def test_a_second_signal_ends_it_at_once(tmp_path):
    with start(tmp_path, **KEPT) as service, Connection(service.port) as connection:
        connection.send(call_message("hold"))
        service.wait_for_notes("holding", 1)
        assert service.program.insist() == 128 + signal.SIGTERM
