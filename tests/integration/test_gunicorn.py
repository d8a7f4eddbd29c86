"""The same class under gunicorn: with its own gevent worker, and with ``GunicornWorker``, which has
our server in gunicorn's processes.

That both serve, drain and replace their workers is in test_workers.py.
"""

import contextlib
import json
import re
import signal
import socket
import sys

import gevent
import pytest

from tests.support.http import Connection, call, call_message, exchange, message, result_of
from tests.support.programs import Program, gunicorn
from tests.support.waiting import LIMIT, gather, wait_until

from .processes import CERTIFICATE, OURS, SERVICE, Processes, TlsConnection, calls_in_flight, start

pytestmark = pytest.mark.slow  # each worker imports the framework

TLS = ("--certfile", CERTIFICATE, "--keyfile", CERTIFICATE)

both_kinds = pytest.mark.parametrize("under", [OURS, "gevent"], ids=["GunicornWorker", "gevent"])

# Starting


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
def test_environment_and_files_apply(tmp_path, monkeypatch, options):
    (tmp_path / "worker.toml").write_text("timeout = 'from the file'\nport = 1\n")
    monkeypatch.setenv("GEMSTONE_PORT", "1234")
    with start(tmp_path, *options, under="gevent", skip_configuration=False) as service:
        assert result_of(call(service.port, "configured"))[:2] == ["from the file", 1234]


@both_kinds
@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("GEMSTONE_MAX_HOPS", "x", "worker: GEMSTONE_MAX_HOPS: must be a whole number, not 'x'"),
        ("GEMSTONE_TEMPLATE_DIR", "/absent", "Worker: no directory /absent"),
    ],
    ids=["not read", "not usable"],
)
def test_a_wrong_setting_ends_it_with_one_line(tmp_path, monkeypatch, under, name, value, line):
    """gunicorn does not start one worker after another."""
    monkeypatch.setenv(name, value)
    with start(tmp_path, under=under, ready=None, skip_configuration=False) as service:
        assert service.program.wait() == 3
        assert service.program.stderr.count(line) == 1
        assert "Traceback" not in service.program.stderr
        assert not service.notes("started")


@both_kinds
@pytest.mark.parametrize(
    ("fails_in", "line"),
    [
        ("start", "worker could not start: RuntimeError: the database is not there ("),
        ("exit", "worker could not start: SystemExit: the database is not there ("),
    ],
)
def test_a_start_hook_that_fails_ends_it_with_one_line(tmp_path, under, fails_in, line):
    """gunicorn would start one worker after another for ever."""
    with start(tmp_path, under=under, ready=None, fails_in=fails_in) as service:
        assert service.program.wait() == 3
        (said,) = [text for text in service.program.stderr.splitlines() if line in text]
        assert re.search(r"service\.py:\d+\)$", said)
        assert "Traceback" not in service.program.stderr
        assert len(service.notes("started")) == 1
        assert not service.notes("stopped")


def test_what_goes_wrong_while_a_service_is_made_is_logged_in_its_own_form(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMSTONE_LOG_FORMAT", "json")
    monkeypatch.setenv("GEMSTONE_METRICS", "true")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/dev/null/absent")
    with start(tmp_path, under=OURS, skip_configuration=False) as service:
        lines = service.program.stderr.splitlines()
    said = [line for line in lines if "metrics are of each worker by itself" in line]
    assert {json.loads(line)["level"] for line in said} == {"ERROR"}


def answer_of(port, sent):
    try:
        return exchange(port, sent)
    except (OSError, AssertionError):
        return None


def test_preload_with_a_configuration_file(tmp_path):
    """The service is made in gunicorn's master, which may be patched by then."""
    text = "from gemstone_sync.concurrency import patch\npatch()\n"
    (tmp_path / "gunicorn.conf.py").write_text(text)
    with start(tmp_path, "--preload", under=OURS, workers=2) as service:
        assert service.wait_for_workers(2) == service.pids("started")
        assert service.program.terminate() == 0
        assert "Traceback" not in service.program.stderr


FORKING = """
import os, subprocess, threading
import gemstone_sync

class Forking(gemstone_sync.MicroService):
    name = "forking"

    @gemstone_sync.exposed_method()
    def program(self):
        return subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout

    @gemstone_sync.exposed_method()
    def child(self):
        pid = os.fork()
        if not pid:
            os._exit(threading.current_thread() is not threading.main_thread())
        return os.waitpid(pid, 0)[1]

service = Forking()
"""

PATCHES_TOO = "from gevent import monkey; monkey.patch_all(queue=False)\n"


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
@pytest.mark.parametrize("file", ["", PATCHES_TOO], ids=["", "patches too"])
@both_kinds
def test_what_is_patched_twice_forks_without_a_word(tmp_path, under, file, options):
    (tmp_path / "forking.py").write_text(FORKING if "GunicornWorker" in under else FORKING + file)
    (tmp_path / "gunicorn.conf.py").write_text(file if "GunicornWorker" in under else "")
    with gunicorn("forking:service", tmp_path, "-k", under, *options) as started:
        started.wait_until_ready()
        assert result_of(call(started.port, "program")) == "hi\n"
        assert result_of(call(started.port, "child")) == 0
        assert started.terminate() == 0
        assert "Traceback" not in started.stderr


def test_several_addresses(tmp_path):
    """gunicorn binds as many as it is told to; each is served, and drained."""
    paths = [tmp_path / "one.socket", tmp_path / "two.socket"]
    command = [sys.executable, "-m", "gunicorn", "-k", OURS, "--no-control-socket"]
    command += ["--pythonpath", str(SERVICE.parent), "service:service"]
    started = Program([*command, *(f"-bunix:{path}" for path in paths)], tmp_path)
    try:
        Processes(started, tmp_path).wait_for_notes("started", 1)
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
    text = SERVICE.read_text() + "\nPath('loading').touch()\ntime.sleep(1.0)\n"
    (tmp_path / "module.py").write_text(text)
    with gunicorn("module:service", tmp_path, "-k", OURS) as started:
        started.wait_until((tmp_path / "loading").exists, "the import")

        assert started.terminate() == 0
    assert "Traceback" not in started.stderr


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


def test_our_worker_serves_any_wsgi_application(tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN)
    with gunicorn("plain:application", tmp_path, "-k", OURS, "-w", "2") as started:
        pids = set()

        def both_answer():
            replies = gather([lambda: answer_of(started.port, message("GET", "/pid"))] * 20)
            pids.update(reply.body for reply in replies if reply is not None)
            return len(pids) == 2

        started.wait_until(both_answer, "both workers")
        with Connection(started.port) as connection:
            assert connection.exchange(message("POST", "/", {}, b"a body")).body == b"a body POST"
            assert connection.exchange(message("GET", "/stream")).body == b"onetwo"
            assert connection.exchange(message("POST", "/", {}, b"more")).body == b"more POST"
        assert started.terminate() == 0
        assert "Traceback" not in started.stderr


# Serving with our worker


def test_our_worker_is_our_server(tmp_path):
    """Its refusals are JSON-RPC errors, its limits the service's own; what outlasts gunicorn's
    graceful timeout is cut off; it logs no access unless asked."""
    with start(tmp_path, "--graceful-timeout", "1", under=OURS) as service:
        malformed = message("POST", "/api", {"Content-Length": "+5"}, b"12345")
        reply = exchange(service.port, malformed)
        assert (reply.status, reply.json["error"]["code"]) == (400, -32600)
        with Connection(service.port) as connection:
            connection.send(message("POST", "/api", {"Content-Length": "100000000"}, None))
            assert connection.read_reply().status in (413, 415)

        assert result_of(call(service.port, "pid", headers={"User-Agent": "the test"}))
        with Connection(service.port) as connection:
            connection.send(call_message("hold"))
            service.wait_for_notes("holding", 1)
            assert service.program.terminate() == 0
            assert connection.is_ended()
        assert "the test" not in service.program.stderr + service.program.stdout


COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"POST /api HTTP/1\.1" 200 \d+ "-" "the test"'
)


def test_access_log(tmp_path):
    log = tmp_path / "access.log"
    with start(tmp_path, "--access-logfile", str(log), under=OURS, workers=2) as service:
        assert result_of(call(service.port, "pid", headers={"User-Agent": "the test"}))

        wait_until(lambda: log.exists() and "the test" in log.read_text(), "a line in the log")
        (line,) = [line for line in log.read_text().splitlines() if "the test" in line]
        assert COMBINED.fullmatch(line), line


ACCESS_BY_CONFIGURATION = """
logconfig_dict = {
    "root": {"handlers": ["own"]},
    "loggers": {
        "gunicorn.access": {
            "handlers": ["own"], "filters": ["calls"], "level": "INFO", "propagate": False,
        },
    },
    "filters": {"calls": {"()": lambda: lambda record: "/health/" not in record.getMessage()}},
    "formatters": {"own": {"format": "own %(name)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
}
"""


@both_kinds
def test_access_log_that_a_configuration_of_logging_asks_for(tmp_path, under):
    file = tmp_path / "access.py"
    file.write_text(ACCESS_BY_CONFIGURATION)
    with start(tmp_path, "-c", str(file), under=under) as service:
        assert result_of(call(service.port, "pid", headers={"User-Agent": "the test"}))
        program = service.program
        program.wait_until(lambda: '"the test"' in program.stderr, "a line in the log")
        (line,) = [line for line in program.stderr.splitlines() if " - - [" in line]
        assert line.startswith("own gunicorn.access 127.0.0.1 - - ["), line


@both_kinds
def test_what_is_done_by_gunicorn_s_own_workers_only_is_told(tmp_path, under):
    options = ("--access-logformat", "%(h)s", "--statsd-host", "127.0.0.1:9")
    with start(tmp_path, *options, under=under, workers=2) as service:
        told = "by GunicornWorker: access_log_format, statsd_host"
        if under == OURS:  # the first worker tells it, and another one may be ready before
            service.program.wait_until(lambda: told in service.program.stderr, told)
        assert service.program.stderr.count(told) == (under == OURS)


@both_kinds
def test_access_log_of_the_service(tmp_path, under):
    """gunicorn's own server writes none, and the service says so, once."""
    with start(tmp_path, under=under, access_log=True) as service:
        assert result_of(call(service.port, "pid", headers={"User-Agent": "the test"}))
        text = "INFO 127.0.0.1 - - [" if under == OURS else "access_log is our own server's: "
        service.program.wait_until(lambda: text in service.program.stderr, text)
        assert service.program.stderr.count("access_log is") == (under != OURS)


def test_max_requests_restarts_a_worker(tmp_path):
    """No call is lost over it."""
    options = ["--max-requests", "200"]
    # The grace is for a client that has no processor between two of its calls.
    with start(tmp_path, *options, under=OURS, workers=2, drain_grace=20.0) as service:
        before = service.wait_for_workers(2)

        def keep_calling():
            answered = 0
            while answered < 100:
                with Connection(service.port) as connection:
                    for _ in range(10):
                        reply = connection.call("pid")
                        answered += bool(result_of(reply))
                        if reply.closes:
                            break
            return answered

        assert sum(gather([keep_calling] * 8)) >= 800
        service.wait_for_workers(2, but=before)
        assert "Autorestarting worker" in service.program.stderr
        assert service.program.terminate() == 0


def test_gunicorns_timeout(tmp_path):
    """A worker whose calls wait for longer is not stuck; one that hangs is killed."""
    with start(tmp_path, "-t", "4", under=OURS) as service:
        (before,) = service.wait_for_workers(1)
        assert result_of(call(service.port, "hold", 7.0)) == before
        with Connection(service.port) as connection:
            connection.send(call_message("burn", "never"))
            service.wait_for_notes("burning", 1)

            # gunicorn interrupts it by SIGABRT first: an error is answered, or nothing.
            assert b'"result"' not in connection.socket.recv(4096)
        assert service.wait_for_workers(1, but=[before])
        assert service.program.terminate() == 0


@both_kinds
def test_hup_loads_the_application_again(tmp_path, under):
    """New workers start; calls in flight are answered by the old ones, which stop."""
    with start(tmp_path, under=under) as service:
        (before,) = service.wait_for_workers(1)
        with Connection(service.port) as connection:
            connection.send(call_message("hold"))
            answer = gevent.spawn(connection.read_reply)
            service.wait_for_notes("holding", 1)
            service.program.send_signal(signal.SIGHUP)
            (after,) = service.wait_for_workers(1, but=[before])
            service.release()
            assert result_of(answer.get(timeout=LIMIT)) == before

        service.wait_for_notes("stopped", 1)
        assert service.pids("stopped") == {before}
        assert service.pids("started") == {before, after}
        assert service.program.terminate() == 0


def is_ready_by_tls(port):
    with contextlib.suppress(OSError, AssertionError), TlsConnection(port) as connection:
        return connection.exchange(message("GET", "/health/ready")).status == 200
    return False


def test_tls_by_gunicorns_certfile(tmp_path):
    """Served, not in the clear, and drained."""
    with start(tmp_path, *TLS, under=OURS, ready=is_ready_by_tls) as service:
        with Connection(service.port) as plain:
            plain.send(message("GET", "/health/live"))
            assert plain.is_ended()
        with TlsConnection(service.port) as idle:
            assert idle.socket.version() == "TLSv1.3"
            assert [result_of(idle.call("pid")) for _ in range(2)] == [*service.workers()] * 2
            with calls_in_flight(service, TlsConnection) as busy:
                service.program.send_signal(signal.SIGTERM)
                service.release()
                assert all(result_of(connection.read_reply()) for connection in busy)
            assert idle.is_ended()
        assert service.program.wait() == 0
        assert "Traceback" not in service.program.stderr
