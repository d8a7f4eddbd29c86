"""``gunicorn -k gemstone_sync.server.GunicornWorker``: gunicorn's processes, our server in them."""

import contextlib
import os
import re
import signal
import socket
import ssl
import sys
from pathlib import Path

import gevent
import pytest

from tests.support.http import (
    Connection,
    call,
    call_message,
    exchange,
    is_ready,
    message,
    refuses_connections,
    result_of,
)
from tests.support.programs import Program, gunicorn
from tests.support.waiting import LIMIT, gather, wait_until

pytestmark = pytest.mark.slow

WORKER = "gemstone_sync.server.GunicornWorker"
SERVICE = Path(__file__).with_name("worker_service.py")
CERTIFICATE = Path(__file__).resolve().parents[1] / "data" / "localhost.pem"

PLAIN = """
import os

def application(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"one", b"two"])
    if environ["PATH_INFO"] == "/pid":
        body = str(os.getpid()).encode()
    else:
        body = environ["wsgi.input"].read() + b" " + environ["REQUEST_METHOD"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def start(tmp_path):
    """Run a module's application with options of gunicorn; returns the program."""
    (tmp_path / "module.py").write_text(SERVICE.read_text())
    (tmp_path / "plain.py").write_text(PLAIN)
    with contextlib.ExitStack() as stack:

        def start(*options, workers=2, application="module:service", ready=is_ready):
            options = ("-k", WORKER, "-w", str(workers), *options)
            started = stack.enter_context(gunicorn(application, tmp_path, *options))
            started.wait_until(lambda: ready(started.port), "the first answer")
            if application == "module:service":
                # gunicorn loses a signal that comes while a worker boots.
                started.wait_until(lambda: len(notes(tmp_path, "started")) >= workers, "workers")
            return started

        yield start


def notes(folder, what):
    try:
        lines = (folder / "notes").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [int(line.split()[1]) for line in lines if line.startswith(f"{what} ")]


def pids(port, count=30):
    return set(gather([lambda: result_of(call(port, "pid"))] * count))


def wait_for_workers(started, count, but=()):
    seen = set()

    def all_seen():
        with contextlib.suppress(OSError, AssertionError):
            seen.update(pids(started.port) - set(but))
        return len(seen) >= count

    started.wait_until(all_seen, f"answers of {count} workers")
    return seen


def test_it_serves(start, tmp_path):
    started = start()

    workers = wait_for_workers(started, 2)

    assert started.process.pid not in workers
    assert len(workers) == 2
    assert set(notes(tmp_path, "started")) == workers
    assert started.terminate() == 0
    assert "Traceback" not in started.stderr
    assert "Warning" not in started.stderr


def test_it_is_our_server(start):
    """Its refusals are JSON-RPC errors, its limits the service's own."""
    started = start(workers=1)

    malformed = exchange(started.port, message("POST", "/api", {"Content-Length": "+5"}, b"12345"))

    assert malformed.status == 400
    assert malformed.json["error"]["code"] == -32600
    with Connection(started.port) as connection:
        connection.send(message("POST", "/api", {"Content-Length": "100000000"}, None))
        assert connection.read_reply().status in (413, 415)


def test_sigterm_drains_every_worker(start, tmp_path):
    started = start()
    workers = wait_for_workers(started, 2)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Connection(started.port)) for _ in range(10)]
        busy = []

        def all_are_busy():
            busy.append(stack.enter_context(Connection(started.port)))
            busy[-1].send(call_message("hold_until_released"))
            return set(notes(tmp_path, "holding")) == workers

        wait_until(all_are_busy, "a call in each worker")
        wait_until(lambda: len(notes(tmp_path, "holding")) == len(busy), "the calls")
        started.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(started.port), "the end of listening")
        (tmp_path / "released").touch()

        replies = gather([connection.read_reply for connection in busy])
        assert {result_of(reply) for reply in replies} == workers
        assert started.wait() == 0
        assert all(connection.is_ended() for connection in idle)
    assert set(notes(tmp_path, "stopped")) == workers
    assert "Traceback" not in started.stderr


def test_calls_that_outlast_the_graceful_timeout_are_cut_off(start, tmp_path):
    started = start("--graceful-timeout", "1", workers=1)
    with Connection(started.port) as connection:
        connection.send(call_message("hold", 30.0))
        wait_until(lambda: notes(tmp_path, "holding"), "the call")

        assert started.terminate() == 0
        assert connection.is_ended()


def test_max_requests_restarts_a_worker(start):
    """No call is lost over it."""
    started = start("--max-requests", "200")
    before = wait_for_workers(started, 2)

    def keep_calling():
        answered = 0
        while answered < 100:
            with Connection(started.port) as connection:
                for _ in range(10):
                    reply = connection.call("pid")
                    answered += bool(result_of(reply))
                    if reply.closes:
                        break
        return answered

    assert sum(gather([keep_calling] * 8)) >= 800
    wait_for_workers(started, 2, but=before)
    assert "Autorestarting worker" in started.stderr
    assert started.terminate() == 0


def test_a_killed_worker_is_replaced(start):
    started = start()
    before = wait_for_workers(started, 2)

    os.kill(min(before), signal.SIGKILL)

    assert wait_for_workers(started, 1, but=before)
    assert started.terminate() == 0


def test_a_worker_that_hangs_is_killed_after_gunicorns_timeout(start, tmp_path):
    started = start("-t", "5", workers=1)
    [before] = pids(started.port)
    with Connection(started.port) as connection:
        connection.send(call_message("hang"))
        wait_until(lambda: notes(tmp_path, "hanging"), "the call")

        # gunicorn interrupts it by SIGABRT first: an error is answered, or nothing.
        assert b'"result"' not in connection.socket.recv(4096)
    assert wait_for_workers(started, 1, but=[before])
    assert started.terminate() == 0


def test_long_calls_do_not_run_into_gunicorns_timeout(start):
    """A worker whose calls wait is not stuck."""
    started = start("-t", "4", workers=1)

    assert result_of(call(started.port, "hold", 7.0)) in pids(started.port)
    assert started.terminate() == 0


COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"POST /api HTTP/1\.1" 200 \d+ "-" "the test"'
)


def test_access_log(start, tmp_path):
    log = tmp_path / "access.log"
    started = start("--access-logfile", str(log))

    assert result_of(call(started.port, "pid", headers={"User-Agent": "the test"}))

    wait_until(lambda: log.exists() and "the test" in log.read_text(), "a line in the log")
    lines = [line for line in log.read_text().splitlines() if "the test" in line]
    assert [bool(COMBINED.fullmatch(line)) for line in lines] == [True], lines
    assert started.terminate() == 0


def test_no_access_log_unless_asked(start):
    started = start(workers=1)

    result_of(call(started.port, "pid", headers={"User-Agent": "the test"}))

    assert started.terminate() == 0
    assert "the test" not in started.stderr + started.stdout


TLS = ("--certfile", str(CERTIFICATE), "--keyfile", str(CERTIFICATE))


class TlsConnection(Connection):
    """Speaks TLS, and knows the test's certificate."""

    def __init__(self, port, version=None):
        super().__init__(port)
        context = ssl.create_default_context(cafile=CERTIFICATE)
        if version is not None:
            context.maximum_version = version
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")


def is_ready_by_tls(port):
    try:
        with TlsConnection(port) as connection:
            return connection.exchange(message("GET", "/health/ready")).status == 200
    except (OSError, AssertionError):
        return False


def test_tls_by_gunicorns_certfile(start):
    started = start(*TLS, ready=is_ready_by_tls)

    with TlsConnection(started.port) as connection:
        assert connection.socket.version() == "TLSv1.3"
        first = result_of(connection.call("pid"))
        assert result_of(connection.call("pid")) == first
    with Connection(started.port) as plain:
        plain.send(message("GET", "/health/live"))
        assert plain.is_ended()  # and not served in the clear
    assert started.terminate() == 0
    assert "Traceback" not in started.stderr


def test_tls_in_flight_is_drained(start, tmp_path):
    started = start(*TLS, workers=1, ready=is_ready_by_tls)
    with TlsConnection(started.port) as idle, TlsConnection(started.port) as busy:
        busy.send(call_message("hold", 1.0))
        wait_until(lambda: notes(tmp_path, "holding"), "the call")
        started.send_signal(signal.SIGTERM)

        assert result_of(busy.read_reply())
        assert idle.is_ended()
        assert started.wait() == 0


def answers_plainly(port):
    try:
        return exchange(port, message("GET", "/")).body == b" GET"
    except (OSError, AssertionError):
        return False


def test_any_wsgi_application(start):
    started = start(application="plain:application", ready=answers_plainly)

    pids = set()

    def both_answer():
        pids.update(gather([lambda: exchange(started.port, message("GET", "/pid")).body] * 20))
        return len(pids) == 2

    started.wait_until(both_answer, "both workers")
    with Connection(started.port) as connection:
        assert connection.exchange(message("POST", "/", {}, b"a body")).body == b"a body POST"
        assert connection.exchange(message("GET", "/stream")).body == b"onetwo"
        assert connection.exchange(message("POST", "/", {}, b"more")).body == b"more POST"
    assert started.terminate() == 0
    assert "Traceback" not in started.stderr


def test_preload(start, tmp_path):
    """The service is made in gunicorn's master and served in its workers."""
    (tmp_path / "gunicorn.conf.py").write_text(
        "from gemstone_sync.concurrency import patch\npatch()\n"
    )
    started = start("--preload")

    workers = wait_for_workers(started, 2)

    assert started.process.pid not in workers
    assert set(notes(tmp_path, "started")) == workers
    assert started.terminate() == 0
    assert set(notes(tmp_path, "stopped")) == workers
    assert "Traceback" not in started.stderr


def test_preload_without_a_configuration_file(start, tmp_path):
    started = start("--preload")

    assert len(wait_for_workers(started, 2)) == 2
    assert started.terminate() == 0
    assert "Traceback" not in started.stderr


def test_periodic_tasks_run_in_one_worker_and_move_when_it_dies(start, tmp_path):
    started = start()
    wait_for_workers(started, 2)
    wait_until(lambda: len(notes(tmp_path, "tick")) > 10, "ticks")
    [first] = set(notes(tmp_path, "tick"))

    os.kill(first, signal.SIGKILL)
    before = len(notes(tmp_path, "tick"))
    wait_until(lambda: len(notes(tmp_path, "tick")) > before + 10, "ticks of another")

    [second] = set(notes(tmp_path, "tick")[before:]) - {first}
    assert second != first
    wait_for_workers(started, 2, but=[first])
    assert started.terminate() == 0


def test_several_addresses(tmp_path):
    """gunicorn binds as many as it is told to; each is served, and drained."""
    (tmp_path / "module.py").write_text(SERVICE.read_text())
    paths = [tmp_path / "one.socket", tmp_path / "two.socket"]
    command = [sys.executable, "-m", "gunicorn", "-k", WORKER, "--no-control-socket"]
    command += [word for path in paths for word in ("-b", f"unix:{path}")]
    started = Program([*command, "module:service"], tmp_path)
    try:
        started.wait_until(lambda: notes(tmp_path, "started"), "the worker")
        for path in paths:
            with socket.socket(socket.AF_UNIX) as local:
                local.settimeout(LIMIT)
                local.connect(str(path))
                local.sendall(message("GET", "/health/live"))
                assert local.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        assert started.terminate() == 0
        assert "Traceback" not in started.stderr
    finally:
        started.kill()


def test_sigterm_while_the_application_is_loaded(tmp_path):
    """A slow import: gunicorn's own workers take note, and stop when it is done."""
    source = SERVICE.read_text() + "\nPath('loading').touch()\ntime.sleep(1.0)\n"
    (tmp_path / "module.py").write_text(source)
    with gunicorn("module:service", tmp_path, "-k", WORKER, "-w", "1") as started:
        started.wait_until((tmp_path / "loading").exists, "the import")

        assert started.terminate() == 0
    assert "Traceback" not in started.stderr


def test_hup_loads_the_application_again(start, tmp_path):
    """Calls in flight are answered by the old workers."""
    started = start()
    before = wait_for_workers(started, 2)
    with Connection(started.port) as connection:
        connection.send(call_message("hold_until_released"))
        answer = gevent.spawn(connection.read_reply)
        wait_until(lambda: notes(tmp_path, "holding"), "the call")
        started.send_signal(signal.SIGHUP)
        wait_for_workers(started, 2, but=before)
        (tmp_path / "released").touch()

        assert result_of(answer.get(timeout=LIMIT)) in before
    assert started.terminate() == 0


def test_a_service_that_cannot_start_says_so(tmp_path):
    (tmp_path / "module.py").write_text(
        SERVICE.read_text().replace("fails_in: str | None = None", 'fails_in = "start"')
    )
    with gunicorn("module:service", tmp_path, "-k", WORKER, "-w", "1") as started:
        started.wait_until(lambda: "the database is not there" in started.stderr, "the reason")
        assert not is_ready(started.port)
