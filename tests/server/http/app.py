"""The WSGI application that the HTTP tests serve: an echo, and a route for each way to answer.

It records the paths that it ran: a path that a request smuggled in must never be among them.
"""

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
from gevent.event import Event
from werkzeug.wsgi import ClosingIterator

from tests.support.waiting import LIMIT

Environ = dict[str, Any]
Route = Callable[..., Any]

TEXT = ("Content-Type", "text/plain")
#: More than the server reads of a body before it answers.
ALL = 1 << 26


class Failure(Exception):
    """Raised by the routes that fail; a test expects it in the log."""


class Application:
    """Echoes every path that is none of its routes.

    :ivar ran: the paths that were run, in order.
    :ivar closed: the paths whose result was closed by the server.
    :ivar entered: set when a route that waits was entered; `release` lets it go on.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.closed: list[str] = []
        self.failures: list[BaseException] = []
        self.entered = Event()
        self.release = Event()

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.ran.append(path)
        return ROUTES.get(path, Application.echo)(self, environ, start_response)

    # Whole answers

    def echo(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """What arrived, as JSON; reads the whole body."""
        told = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"],
            "query": environ["QUERY_STRING"],
            "body": environ["wsgi.input"].read(ALL).decode("latin-1"),
        }
        told |= {name: environ[name] for name in sorted(environ) if name.startswith(_TOLD)}
        text = json.dumps(told).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
        start_response("200 OK", headers)
        return [text]

    def sizes(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """In what pieces the body arrives, one line each."""
        stream = environ["wsgi.input"]
        # A buffered reader's own readinto would wait until the piece is full.
        take = getattr(stream, "readinto1", stream.readinto)
        piece = bytearray(1 << 16)
        lines = []
        while size := take(piece):
            lines.append(b"%d\n" % size)
        start_response("200 OK", [TEXT])
        return [b"".join(lines)]

    def lines(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The body as JSON, by readline, or by iteration if the query says so."""
        stream = environ["wsgi.input"]
        lines = iter(lambda: stream.readline(ALL), b"")
        if environ["QUERY_STRING"] == "by-iteration":
            lines = stream
        text = json.dumps([line.decode("latin-1") for line in lines])
        start_response("200 OK", [TEXT])
        return [text.encode()]

    def half_read(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start = environ["wsgi.input"].read(5)
        start_response("200 OK", [TEXT])
        return [start]

    def wait(self) -> None:
        self.entered.set()
        assert self.release.wait(LIMIT)

    def waits(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Reads the body, then waits until it is let go; if the query says so, before."""
        if environ["QUERY_STRING"] == "first":
            self.wait()
        body = environ["wsgi.input"].read(ALL)
        self.wait()
        start_response("200 OK", [TEXT])
        return [b"waited" + body]

    def large(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer as many bytes as the query says."""
        start_response("200 OK", [TEXT])
        return [b"x" * int(environ["QUERY_STRING"])]

    def large_streamed(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The same as one piece of a generator."""
        start_response("200 OK", [TEXT])
        yield b"x" * int(environ["QUERY_STRING"])

    def large_written(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The same, written."""
        start_response("200 OK", [TEXT])(b"x" * int(environ["QUERY_STRING"]))
        return []

    def status(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The status line of the body or query, with a body that some statuses must not have."""
        line = environ["wsgi.input"].read(ALL).decode("utf-8")
        start_response(line or environ["QUERY_STRING"].replace("+", " "), [])
        return [b"a body"]

    def late_start(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """PEP 3333: a generator may call start_response at its first step."""
        start_response("200 OK", [TEXT])
        yield b"late"

    def written(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"written,")
        write(b"twice,")
        return [b"returned"]

    def file(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        file = io.BytesIO(b"f" * 2500)
        file.close = lambda: self.closed.append("/file")  # type: ignore[method-assign]
        return environ["wsgi.file_wrapper"](file, 1000)

    def no_result(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [TEXT])

    def raises_after_start(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        raise Failure("after start_response")

    def raises_in_close(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "4")])

        class Result(list[bytes]):
            def close(self) -> None:
                raise Failure("in close")

        return Result([b"fine"])

    def replaces_answer(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """exc_info before anything is sent: the new head stands; else it is raised again."""
        write = start_response("200 OK", [TEXT, ("X-Old", "old")])
        if environ["QUERY_STRING"] == "too-late":
            write(b"one,")
        try:
            raise Failure("handled")
        except Failure:
            try:
                head = ("503 Service Unavailable", [TEXT, ("X-New", "new")])
                start_response(*head, sys.exc_info())
            except Failure as raised:
                self.failures.append(raised)
                raise
        return [b"replaced"]

    def header(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """A header from the body: its name, a colon and the value, all as they are."""
        name, _, value = environ["wsgi.input"].read(ALL).decode("utf-8").partition(":")
        start_response("200 OK", [TEXT, (name, value)])
        return [b"sent"]


#: What the echo tells of the environ.
_TOLD = ("HTTP_", "CONTENT_", "SERVER_PROTOCOL", "REMOTE_ADDR", "wsgi.url_")


def _whole(*body: Any, status: str = "200 OK", starts: int = 1, **headers: Any) -> Route:
    """A route with always the same answer, a list; `starts` is how often it is started."""

    def answer(application: Application, environ: Environ, start_response: Any) -> list[Any]:
        given = [(name.replace("_", "-"), str(value)) for name, value in headers.items()]
        for _ in range(starts):
            start_response(status, [TEXT, *given])
        return list(body)

    return answer


def _pieces(*body: Any, **head: Any) -> Route:
    """Read as `_whole`, in pieces, as often as the query says.

    One that is an exception is raised; a function is called with the application.
    """

    def pieces(application: Application, rounds: int) -> Iterator[bytes]:
        for piece in body * rounds:
            if isinstance(piece, Exception):
                raise piece.with_traceback(None)
            if callable(piece):
                piece(application)
            else:
                yield piece

    def answer(application: Application, environ: Environ, start_response: Any) -> Any:
        _whole(**head)(application, environ, start_response)
        rounds, path = int(environ["QUERY_STRING"] or 1), environ["PATH_INFO"]
        return ClosingIterator(pieces(application, rounds), lambda: application.closed.append(path))

    return answer


def _raises(fault: BaseException) -> Route:
    def answer(application: Application, environ: Environ, start_response: Any) -> Any:
        raise fault.with_traceback(None)

    return answer


#: Every method but the constructor's is a route: `half_read` is ``/half-read``.
ROUTES: dict[str, Route] = {
    "/" + name.replace("_", "-"): function
    for name, function in vars(Application).items()
    if not name.startswith("_") and name not in ("reset", "wait") and callable(function)
}
ROUTES |= {
    "/unread": _whole(b"unread", Content_Length=6),
    # An early answer: refuses the body without reading it.
    "/too-large": _whole(b"too large", status="413 Content Too Large", Connection="close"),
    "/empty-list": _whole(),
    "/empty-piece": _whole(b""),
    "/nothing": _pieces(),
    "/stream": _pieces(b"one,", b"", b"two,", b"three"),
    "/stream-slowly": _pieces(b"first,", Application.wait, b"second"),
    "/stream-on": _pieces(Application.wait, *[b"more", lambda _: gevent.idle()] * 50),
    "/large-in-pieces": _pieces(b"x" * 65536),
    "/stream-with-length": _pieces(b"one", b"two", b"six", Content_Length=9),
    # Against the rules
    "/too-short": _whole(b"short", Content_Length=10),
    "/too-short-in-pieces": _pieces(b"sh", b"ort", Content_Length=10),
    "/too-long": _whole(b"longer than that", Content_Length=4),
    "/too-long-in-pieces": _pieces(b"lon", b"ger", b" than", Content_Length=4),
    "/two-lengths": _whole(b"four", Content_Length=4, content_length=2),
    "/never-started": _whole(b"no start_response", starts=0),
    "/started-twice": _whole(b"twice", starts=2),
    "/text-as-body": _whole("text, not bytes"),
    "/raises": _raises(Failure("before start_response")),
    # A fault of its own that has nothing to do with the client.
    "/raises-os-error": _raises(FileNotFoundError("the application's own")),
    # gevent.Timeout is a BaseException.
    "/raises-timeout": _raises(gevent.Timeout(1)),
    # The headers are sent by then.
    "/raises-in-body": _pieces(b"one,", Failure("in the body")),
    "/raises-in-body-os-error": _pieces(b"one,", FileNotFoundError("its own")),
    # start_response was called, nothing is sent yet.
    "/raises-at-once-in-body": _pieces(Failure("in the body")),
}
