"""The same class under the real ``gunicorn -k gevent``."""

import contextlib
import os
import signal
from pathlib import Path

import gevent
import pytest

import gemstone_sync
from tests.support.http import (
    JSON,
    Connection,
    call,
    call_body,
    exchange,
    message,
    result_of,
)
from tests.support.programs import gunicorn
from tests.support.waiting import gather, wait_until

HERE = Path(__file__).parent


class Diary:
    """What the workers wrote of their lives."""

    def __init__(self, path):
        self.path = path

    def pids(self, what):
        text = self.path.read_text() if self.path.exists() else ""
        notes = [line.split() for line in text.splitlines()]
        return [int(pid) for said, pid in notes if said == what]


@pytest.fixture(params=[[], ["--preload"]], ids=["plain", "preload"])
def served(request, tmp_path):
    """Two workers, started, before any request: the program and its diary."""
    with workers(tmp_path, 2, *request.param) as both:
        yield both


@contextlib.contextmanager
def workers(folder, count, *options, **environment):
    diary = Diary(folder / "diary.txt")
    arguments = ["-w", str(count), "--pythonpath", str(HERE), "--timeout", "77", *options]
    variables = {"DIARY": str(diary.path), **environment}
    application = "gunicorn_service:service"
    with gunicorn(application, folder, *arguments, environment=variables) as running:
        yield running, diary


def wait_for_starts(running, diary, count):
    running.wait_until(lambda: len(diary.pids("start")) >= count, f"{count} start hooks")


def test_every_worker_serves(served):
    running, diary = served
    port = running.wait_until_ready()
    seen = set()

    def both_seen():
        seen.update(gather([lambda: result_of(call(port, "pid"))] * 20))
        return len(seen) == 2

    running.wait_until(both_seen, "calls in both workers")
    assert seen == set(diary.pids("start"))
    assert running.process.pid not in seen
    assert result_of(call(port, "add", 1, 2)) == 3


def test_the_hooks_run_in_each_worker(served):
    """The start hook without waiting for a request, the stop hook at the end."""
    running, diary = served
    wait_for_starts(running, diary, 2)
    started = diary.pids("start")
    assert len(set(started)) == 2
    assert running.process.pid not in started
    running.wait_until_ready()

    assert running.terminate() == 0

    assert diary.pids("start") == started
    assert sorted(diary.pids("stop")) == sorted(started)
    assert running.stderr.count(" INFO worker stopped\n") == 2
    assert "Traceback" not in running.stderr
    assert "Warning" not in running.stderr


def test_gunicorns_command_line_is_not_the_services(served):
    running, _ = served
    port = running.wait_until_ready()

    assert "--timeout" in result_of(call(port, "argv"))
    assert result_of(call(port, "configured")) == ["unset", gemstone_sync.MicroService.port]


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["plain", "preload"])
def test_environment_and_files_apply_under_gunicorn(preload, tmp_path):
    (tmp_path / "worker.toml").write_text("timeout = 'from the file'\nport = 1\n")
    with workers(tmp_path, 1, *preload, GEMSTONE_PORT="1234") as (running, _):
        port = running.wait_until_ready()
        assert result_of(call(port, "configured")) == ["from the file", 1234]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"GEMSTONE_MAX_HOPS": "x"}, "worker: GEMSTONE_MAX_HOPS: must be a whole number, not 'x'"),
        ({"GEMSTONE_TEMPLATE_DIR": "/absent"}, "Worker: no directory /absent"),
    ],
    ids=["not read", "not usable"],
)
@pytest.mark.parametrize("kind", ["gevent", "gemstone_sync.server.GunicornWorker"])
def test_a_wrong_setting_ends_gunicorn_with_one_line(kind, setting, line, tmp_path):
    """And does not have it start one worker after another."""
    with workers(tmp_path, 1, "-k", kind, **setting) as (running, diary):
        assert running.wait() == 3
        assert running.stderr.count(line) == 1
        assert "Traceback" not in running.stderr
        assert not diary.pids("start")


def test_a_worker_that_dies_is_replaced(served):
    running, diary = served
    wait_for_starts(running, diary, 2)
    victim = diary.pids("start")[0]
    # gunicorn's master sleeps for up to 0.1 s after it forked, and sees every signal then. What
    # counts is what it sees afterwards, for which there is no event.
    gevent.sleep(0.3)

    os.kill(victim, signal.SIGKILL)

    wait_for_starts(running, diary, 3)
    assert len(set(diary.pids("start"))) == 3
    assert result_of(call(running.wait_until_ready(), "add", 1, 2)) == 3


def test_reload(tmp_path):
    """SIGHUP: new workers start, the old ones stop."""
    with workers(tmp_path, 1) as (running, diary):
        wait_for_starts(running, diary, 1)
        running.wait_until_ready()

        running.send_signal(signal.SIGHUP)

        wait_for_starts(running, diary, 2)
        running.wait_until(lambda: diary.pids("stop"), "the old worker's stop hook")
        first, second = diary.pids("start")
        assert diary.pids("stop") == [first] != [second]
        assert result_of(call(running.port, "add", 1, 2)) == 3


def test_every_host_is_accepted(tmp_path):
    """The service does not know where gunicorn listens."""
    with workers(tmp_path, 1) as (running, _):
        port = running.wait_until_ready()
        for host in ("service.example.org", "10.0.0.7:80"):
            sent = message("POST", "/api", {**JSON, "Host": host}, call_body("add", 1, 2))
            assert result_of(exchange(port, sent)) == 3
        foreign = {**JSON, "Origin": "https://evil.example"}
        sent = message("POST", "/api", foreign, call_body("add", 1, 2))
        assert exchange(port, sent).status == 403


def test_keep_alive_and_errors(tmp_path):
    with workers(tmp_path, 1) as (running, _):
        port = running.wait_until_ready()
        with Connection(port) as connection:
            assert connection.exchange(message("GET", "/api")).status == 405
            assert connection.exchange(message("POST", "/api", JSON, b"{")).status == 200
            assert [result_of(connection.call("add", n, 1)) for n in range(50)] == [
                n + 1 for n in range(50)
            ]


def test_a_start_hook_that_fails_is_seen_in_health(tmp_path):
    """The worker stays, since gunicorn would start it again for ever; it is neither live nor
    ready, and refuses calls."""
    with workers(tmp_path, 1, FAIL="1") as (running, _):
        live = message("GET", "/health/live")
        wait_until(lambda: answers(running.port, live), "an answer")
        for path in ("/health/live", "/health/ready"):
            reply = exchange(running.port, message("GET", path))
            assert reply.status == 503
            assert b"failed" in reply.body
        assert call(running.port, "add", 1, 2).status == 503
        assert "the database is away" in running.stderr


def answers(port, sent):
    try:
        return exchange(port, sent)
    except (OSError, AssertionError):
        return None
