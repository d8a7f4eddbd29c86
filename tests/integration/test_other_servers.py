"""A service, its app or its class given to a WSGI server that knows nothing of it.

Those that are not installed with the tests are in tests/libraries/test_wsgi_servers.py.
"""

import pytest

from .hosts import IMPORTS, ask, call, check, check_end, served
from .processes import SERVICE

pytestmark = pytest.mark.slow  # each imports the framework in a process of its own

SERVERS = {
    "wsgiref": """
from wsgiref.simple_server import make_server
make_server("127.0.0.1", {port}, APPLICATION).serve_forever()
""",
    "wsgiref, threads": """
import socketserver
from wsgiref.simple_server import WSGIServer, make_server
class Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
make_server("127.0.0.1", {port}, APPLICATION, Threads).serve_forever()
""",
    "werkzeug": """
from werkzeug.serving import run_simple
run_simple("127.0.0.1", {port}, APPLICATION)
""",
    "werkzeug, threads": """
from werkzeug.serving import run_simple
run_simple("127.0.0.1", {port}, APPLICATION, threaded=True)
""",
    "gevent": """
from gevent.pywsgi import WSGIServer
WSGIServer(("127.0.0.1", {port}), APPLICATION).serve_forever()
""",
}


@pytest.mark.parametrize("application", ["service", "service.app", "Worker"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_first_request_starts_it(tmp_path, server, application):
    text = IMPORTS + SERVERS[server].replace("APPLICATION", application)
    with served(tmp_path, "-c", text) as service:
        check(service)


@pytest.mark.parametrize("server", SERVERS)
def test_sigterm_stops_it(tmp_path, server):
    text = IMPORTS + SERVERS[server].replace("APPLICATION", "service.app")
    with served(tmp_path, "-c", text) as service:
        check_end(service)


@pytest.mark.parametrize("check", [check, check_end])
def test_flask_run(tmp_path, check):
    words = ["-m", "flask", "--app", f"{SERVICE}:service", "run", "-p", "{port}"]
    with served(tmp_path, *words) as service:
        check(service)


OWN_HANDLER = """
import signal
def end(number, frame):
    raise SystemExit(7)
signal.signal(signal.SIGTERM, end)
"""


def test_a_handler_of_the_program_is_left_alone(tmp_path):
    text = IMPORTS + OWN_HANDLER + SERVERS["werkzeug"].replace("APPLICATION", "service")
    with served(tmp_path, "-c", text) as service:
        service.program.wait_until(lambda: ask(service.port, "/health/ready")[0] == 200, "a start")
        assert service.program.terminate() == 7
        assert len(service.notes("stopped")) == 1


CHILDREN = """
import multiprocessing, time
@service.app.get("/child")
def child():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join()
    return str(process.exitcode)
"""


def test_a_child_ends_by_sigterm_as_ever(tmp_path):
    text = IMPORTS + CHILDREN + SERVERS["werkzeug, threads"].replace("APPLICATION", "service.app")
    with served(tmp_path, "-c", text) as service:
        service.program.wait_until(lambda: ask(service.port, "/health/ready")[0] == 200, "a start")
        assert ask(service.port, "/child") == (200, b"-15")
        assert not service.notes("stopped")


def test_a_start_that_fails_is_one_line_and_seen_in_health(tmp_path):
    text = SERVERS["wsgiref"].replace("APPLICATION", "service.app")
    with served(tmp_path, "-c", f"{IMPORTS}service.fails_in = 'start'\n{text}") as service:
        port = service.port
        service.program.wait_until(lambda: ask(port, "/health/ready")[0] == 503, "an answer")
        assert ask(port, "/health/live")[0] == 503
        assert call(port, "add", 1, 2)[0] == 503
        line = "worker could not start: RuntimeError: the database is not there ("
        assert service.program.stderr.count(line) == 1
        assert "Traceback" not in service.program.stderr


@pytest.mark.parametrize("server", ["wsgiref", "werkzeug, threads", "gevent"])
def test_an_access_log_is_the_servers(tmp_path, server):
    text = f"{IMPORTS}service.access_log = True\n"
    text += SERVERS[server].replace("APPLICATION", "service.app")
    with served(tmp_path, "-c", text) as service:
        check(service)
        assert service.program.stderr.count("access_log is our own server's: ") == 1
