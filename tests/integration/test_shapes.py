"""Every way of giving a service to gunicorn: it is started, and answers."""

import contextlib
import json

import pytest

from tests.support.http import (
    JSON,
    Connection,
    call,
    call_body,
    exchange,
    is_ready,
    message,
    result_of,
)
from tests.support.programs import gunicorn

from .processes import OURS, SERVICE, Processes

pytestmark = pytest.mark.slow  # each worker imports the framework

both_kinds = pytest.mark.parametrize("under", [OURS, "gevent"], ids=["GunicornWorker", "gevent"])


@contextlib.contextmanager
def start(folder, target, under, *options, workers=1, environment=None, **attributes):
    words = ["--pythonpath", str(SERVICE.parent), "-k", under, "-w", str(workers), *options]
    target = target if ":" in target else f"shapes:{target}"
    environment = {"ATTRIBUTES": json.dumps(attributes), **(environment or {})}
    with gunicorn(target, folder, *words, environment=environment) as started:
        yield Processes(started, folder)


EVERY = [
    "service",
    "app",
    "Worker",
    "create_app()",
    "create_app('worker')",
    "create_service()",
    "create_app",
    "create_service",
    "create_wrapped()",
    "around_service",
    "around_app",
    "around_wsgi_app",
    "around_both",
    "proxy_fix",
    "shared_data",
    "partial",
    "proxy",
    "by_name",
]
SOME = ["app", "Worker", "create_app()", "create_service", "around_both", "by_name"]


@pytest.mark.parametrize(
    ("target", "under"), [*((t, OURS) for t in EVERY), *((t, "gevent") for t in SOME)]
)
def test_a_service_is_up_before_its_first_request(tmp_path, target, under):
    """Its hooks run once, its periodic tasks run, and the log says where it is."""
    # Else gunicorn's own ends a connection that is idle for 2 s.
    with start(tmp_path, target, under, "--keep-alive", "60") as service:
        service.wait_for_notes("tick", 1)  # nobody has asked for anything yet
        port = service.program.port
        service.program.wait_until(lambda: is_ready(port), "/health/ready")
        with Connection(port) as client:
            for _ in range(2):
                assert result_of(client.call("count")) == 1

        assert service.program.terminate() == 0
        assert len(service.notes("started")) == len(service.notes("stopped")) == 1
        said = service.program.stderr
        assert said.count(f"INFO worker listens on http://127.0.0.1:{port}/api\n") == 1
        assert "Traceback" not in said


LATE = """
from functools import lru_cache
from werkzeug.middleware.proxy_fix import ProxyFix

around_class = ProxyFix(Worker)
made_late = lru_cache(lambda: Worker().app)

def lazy(environ, start_response):
    return made_late()(environ, start_response)
"""


@both_kinds
@pytest.mark.parametrize("target", ["around_class", "lazy"])
def test_what_is_made_by_the_first_request_is_started_by_it(tmp_path, target, under):
    source = SERVICE.read_text().partition("service = Worker()")[0]
    (tmp_path / "late.py").write_text(source + LATE)
    with start(tmp_path, f"late:{target}", under) as service:
        port = service.program.port
        service.program.wait_until(lambda: is_ready(port), "/health/ready")
        assert result_of(call(port, "add", 1, 2)) == 3
        assert service.program.terminate() == 0
        assert len(service.notes("started")) == len(service.notes("stopped")) == 1


@both_kinds
@pytest.mark.parametrize(
    ("target", "first", "second"),
    [
        ("outer", "/rpc", "/deep/er"),
        ("several", "", "/other"),
        ("below", "", "/other"),
    ],
)
def test_several_services_in_one_application(tmp_path, target, under, first, second):
    """Each below its path, with its own limits."""
    with start(tmp_path, target, under) as service:
        port = service.program.port
        for name, path in (("worker", first), ("other", second)):
            line = f"{name} listens on http://127.0.0.1:{port}{path}/api\n"
            service.program.wait_until(lambda line=line: line in service.program.stderr, line)
            reply = exchange(port, message("GET", f"{path}/health/ready"))
            assert reply.status == 200
            added = message("POST", f"{path}/api", JSON, call_body("add", 1, 2))
            assert result_of(exchange(port, added)) == 3
        for path, status in ((first, 200), (second, 413)):
            long = message("POST", f"{path}/api", JSON, call_body("add", "long" * 1_000))
            assert exchange(port, long).status == status
        assert service.ticking()
        assert service.program.terminate() == 0
        assert service.program.stderr.count("INFO worker stopped\n") == 1
        assert service.program.stderr.count("INFO other stopped\n") == 1


@both_kinds
@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
@pytest.mark.parametrize("target", ["around_app", "Worker"])
def test_several_workers(tmp_path, target, under, options):
    """Each runs the hooks once, one of them the periodic tasks."""
    with start(tmp_path, target, under, *options, workers=2) as service:
        service.wait_for_notes("started", 2)
        assert len(service.ticking()) == 1
        assert service.program.terminate() == 0
        assert len(service.pids("started")) == len(service.notes("started")) == 2
        assert service.pids("stopped") == service.pids("started")
        assert len(service.notes("stopped")) == 2


@both_kinds
@pytest.mark.parametrize("target", ["app", "around_app", "create_app()", "Worker"])
def test_the_environment_counts_as_for_a_service(tmp_path, target, under):
    environment = {"GEMSTONE_MAX_BODY_SIZE": "2000"}
    with start(
        tmp_path, target, under, environment=environment, skip_configuration=False
    ) as service:
        service.wait_for_notes("started", 1)
        assert call(service.program.port, "add", "long" * 1_000).status == 413


@both_kinds
@pytest.mark.parametrize(
    ("target", "environment", "line"),
    [
        ("around_app", {"GEMSTONE_MAX_HOPS": "x"}, "must be a whole number, not 'x'"),
        ("app", {"GEMSTONE_TEMPLATE_DIR": "/absent"}, "Worker: no directory /absent"),
        ("Worker", {"GEMSTONE_MAX_HOPS": "x"}, "must be a whole number, not 'x'"),
        ("create_number", {}, "create_number() gives int, no application"),
        ("Needy", {}, "Needy could not start: TypeError: "),
        ("create_app_of", {}, "create_app_of could not start: TypeError: "),
    ],
)
def test_what_cannot_be_served_ends_gunicorn_with_one_line(
    tmp_path, target, environment, line, under
):
    with start(
        tmp_path, target, under, environment=environment, skip_configuration=False
    ) as service:
        assert service.program.wait() == 3
        said = service.program.stderr
        assert said.count(line) == 1, said
        assert "Traceback" not in service.program.stderr
        assert service.program.stderr.count("Booting worker") == 1


def test_settings_of_the_server_come_from_behind_middleware(tmp_path):
    with start(tmp_path, "around_app", OURS, access_log=True) as service:
        service.wait_for_notes("started", 1)
        assert result_of(call(service.program.port, "add", 1, 2)) == 3
        service.program.wait_until(
            lambda: '"POST /api HTTP/1.1" 200' in service.program.stderr, "the access log"
        )


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
@pytest.mark.parametrize(
    ("under", "kind"),
    [("gthread", "gthread worker (--threads chooses it)"), ("asgi", "gasgi worker")],
)
def test_a_worker_in_which_calls_would_hang_is_refused(tmp_path, under, kind, options):
    with start(tmp_path, "app", under, *options) as service:
        assert service.program.wait() == 3
        line = (
            f"gemstone_sync services cannot run in gunicorn's {kind}: "
            "use gunicorn -k gemstone_sync.server.GunicornWorker\n"
        )
        said = service.program.stderr
        assert said.count(line) == 1, said
        assert "Traceback" not in service.program.stderr
        assert not service.notes("started")


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
def test_the_sync_worker_answers_and_says_that_it_is_slow(tmp_path, options):
    """It runs hooks and periodic tasks as any other."""
    with start(tmp_path, "around_app", "sync", *options, workers=2) as service:
        service.wait_for_notes("started", 2)
        assert len(service.ticking()) == 1
        assert result_of(call(service.program.port, "add", 1, 2)) == 3
        assert "The sync worker makes one call after the other: use gunicorn -k " in (
            service.program.stderr
        )
        assert service.program.terminate() == 0
        assert service.pids("stopped") == service.pids("started")
