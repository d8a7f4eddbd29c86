"""A service under WSGI servers from PyPI: it answers, or one line ends the server."""

import importlib.util

import pytest

from tests.integration.hosts import IMPORTS, check, check_end, served
from tests.support.machine import absent

pytestmark = pytest.mark.slow  # the servers are not installed with the tests

#: The words after ``python``, by the library.
ANSWERING = {
    "waitress": [
        "-c",
        "from served import *\nimport waitress; waitress.serve(APPLICATION, port={port})",
    ],
    "cheroot": [
        "-c",
        "from served import *\n"
        "from cheroot.wsgi import Server; Server(('127.0.0.1', {port}), APPLICATION).start()",
    ],
    "tornado": [
        "-c",
        "from served import *\n"
        "import tornado.wsgi, tornado.ioloop, tornado.httpserver\n"
        "container = tornado.wsgi.WSGIContainer(APPLICATION)\n"
        "tornado.httpserver.HTTPServer(container).listen({port}, '127.0.0.1')\n"
        "tornado.ioloop.IOLoop.current().start()",
    ],
    "a2wsgi": [
        "-c",
        "from served import *\n"
        "import a2wsgi, uvicorn\n"
        "uvicorn.run(a2wsgi.WSGIMiddleware(APPLICATION), port={port})",
    ],
    "uvicorn": [
        *("-m", "uvicorn", "--interface", "wsgi", "--port", "{port}"),
        "served:APPLICATION",
    ],
    "hypercorn": ["-m", "hypercorn", "-b", "127.0.0.1:{port}", "wsgi:served:APPLICATION"],
    "pyuwsgi": [
        *("-c", "import pyuwsgi; pyuwsgi.run()", "--http-socket", "127.0.0.1:{port}"),
        *("--module", "served:APPLICATION", "--gevent", "50", "--die-on-term"),
    ],
}

REFUSED = {
    "granian": (
        ["-m", "granian", "--interface", "wsgi", "--port", "{port}", "served:service"],
        "gemstone_sync services cannot run under granian: use gunicorn -k ",
    ),
    "pyuwsgi": (
        [
            *("-c", "import pyuwsgi; pyuwsgi.run()", "--http-socket", "127.0.0.1:{port}"),
            *("--module", "served:service", "--die-on-term"),
        ],
        "gemstone_sync services need uWSGI's gevent loop: start uWSGI with --gevent 1000, or use ",
    ),
    **{
        f"uvicorn {application}": (
            ["-m", "uvicorn", "--port", "{port}", f"served:{application}"],
            "gemstone_sync services speak WSGI: start uvicorn with --interface wsgi, or use ",
        )
        for application in ("service", "app", "Worker")
    },
    "eventlet": (
        ["-c", "import eventlet; eventlet.monkey_patch(); import served"],
        "gemstone_sync services need gevent, and eventlet has patched this process: ",
    ),
}


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """``served``, for servers that import an application by name."""
    (tmp_path / "served.py").write_text(f"{IMPORTS}app = service.app\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


@pytest.mark.parametrize("application", ["service", "app"])
@pytest.mark.parametrize("library", ANSWERING)
def test_it_answers(tmp_path, library, application):
    need(library)
    words = [word.replace("APPLICATION", application) for word in ANSWERING[library]]
    with served(tmp_path, *words) as service:
        check(service)


@pytest.mark.parametrize("library", sorted({*ANSWERING} - {"pyuwsgi"}))
def test_sigterm_stops_it(tmp_path, library):
    need(library)
    words = [word.replace("APPLICATION", "service") for word in ANSWERING[library]]
    with served(tmp_path, *words) as service:
        check_end(service)


@pytest.mark.parametrize("library", REFUSED)
def test_one_line_says_what_to_use(tmp_path, library):
    need(library.partition(" ")[0])
    words, line = REFUSED[library]
    with served(tmp_path, *words) as service:
        assert service.program.wait() != 0
        said = service.program.stderr + service.program.stdout
        assert said.count(line) == 1
        assert "Traceback" not in said
        assert not service.notes("started")


def need(library):
    if importlib.util.find_spec(library) is None:
        absent(f"{library} is not installed")
