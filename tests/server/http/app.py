"""The WSGI application that the HTTP tests serve: an echo, and a route for each way to answer.

It records the paths that it ran: a path that a request smuggled in must never be among them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
from gevent.event import Event

Environ = dict[str, Any]

TEXT = ("Content-Type", "text/plain")
#: More than the server reads of a body before it answers.
ALL = 1 << 26
#: What a test may wait for.
LIMIT = 20.0


class Failure(Exception):
    """Raised by the routes that fail; a test expects it in the log."""


class Pieces:
    """An iterable of pieces that knows whether it was closed."""

    def __init__(self, pieces: Iterable[bytes], closed: list[str], name: str) -> None:
        self._pieces = iter(pieces)
        self._closed = closed
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        self._closed.append(self._name)


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
        route: Callable[..., Iterable[bytes]] = ROUTES.get(path, Application.echo)
        return route(self, environ, start_response)

    # Whole answers

    def echo(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """What arrived, as JSON; reads the whole body."""
        body = environ["wsgi.input"].read(ALL)
        text = json.dumps(
            {
                "method": environ["REQUEST_METHOD"],
                "path": environ["PATH_INFO"],
                "query": environ["QUERY_STRING"],
                "body": body.decode("latin-1"),
                "environ": {name: environ[name] for name in sorted(environ) if _is_told(name)},
            }
        ).encode()
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
        """The body by readline, as JSON."""
        stream = environ["wsgi.input"]
        lines = []
        while line := stream.readline(ALL):
            lines.append(line.decode("latin-1"))
        start_response("200 OK", [TEXT])
        return [json.dumps(lines).encode()]

    def by_iteration(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The body by iteration, as JSON."""
        lines = [line.decode("latin-1") for line in environ["wsgi.input"]]
        start_response("200 OK", [TEXT])
        return [json.dumps(lines).encode()]

    def unread(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Leaves the body where it is."""
        start_response("200 OK", [TEXT, ("Content-Length", "6")])
        return [b"unread"]

    def half_read(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start = environ["wsgi.input"].read(5)
        start_response("200 OK", [TEXT])
        return [start]

    def too_large(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """An early answer: refuses the body without reading it."""
        start_response("413 Content Too Large", [TEXT, ("Connection", "close")])
        return [b"too large"]

    def waits(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Reads the body, then waits until it is let go."""
        body = environ["wsgi.input"].read(ALL)
        self.entered.set()
        assert self.release.wait(LIMIT)
        start_response("200 OK", [TEXT])
        return [b"waited" + body]

    def waits_first(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Waits until it is let go, and reads the body only then."""
        self.entered.set()
        assert self.release.wait(LIMIT)
        body = environ["wsgi.input"].read(ALL)
        start_response("200 OK", [TEXT])
        return [b"read" + body]

    def large(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """As many bytes as the query says."""
        start_response("200 OK", [TEXT])
        return [b"x" * int(environ["QUERY_STRING"])]

    def large_in_pieces(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """As many pieces of 64 KB as the query says."""
        start_response("200 OK", [TEXT])
        pieces = (b"x" * 65536 for _ in range(int(environ["QUERY_STRING"])))
        return Pieces(pieces, self.closed, "/large-in-pieces")

    def status(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The status line that the query says, with a body that some statuses must not have."""
        start_response(environ["QUERY_STRING"].replace("+", " "), [])
        return [b"a body"]

    # In pieces

    def stream(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return Pieces([b"one,", b"", b"two,", b"three"], self.closed, "/stream")

    def stream_slowly(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The second piece comes when the test lets it."""
        start_response("200 OK", [TEXT])

        def pieces() -> Iterator[bytes]:
            yield b"first,"
            self.entered.set()
            assert self.release.wait(LIMIT)
            yield b"second"

        return Pieces(pieces(), self.closed, "/stream-slowly")

    def stream_on(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Many pieces, once the test lets them go; the loop runs between two of them."""
        start_response("200 OK", [TEXT])

        def pieces() -> Iterator[bytes]:
            self.entered.set()
            assert self.release.wait(LIMIT)
            for _ in range(50):
                yield b"more"
                gevent.idle()

        return Pieces(pieces(), self.closed, "/stream-on")

    def stream_with_length(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "9")])
        return Pieces([b"one", b"two", b"six"], self.closed, "/stream-with-length")

    def late_start(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """PEP 3333: a generator may call start_response at its first step."""
        start_response("200 OK", [TEXT])
        yield b"late"

    def nothing(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return Pieces([], self.closed, "/nothing")

    def empty_list(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return []

    def empty_piece(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return [b""]

    def written(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"written,")
        write(b"twice,")
        return [b"returned"]

    def file(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return environ["wsgi.file_wrapper"](File(self.closed), 1000)

    # Against the rules

    def too_short(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "10")])
        return [b"short"]

    def too_short_in_pieces(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "10")])
        return Pieces([b"sh", b"ort"], self.closed, "/too-short-in-pieces")

    def too_long(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "4")])
        return [b"longer than that"]

    def too_long_in_pieces(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "4")])
        return Pieces([b"lon", b"ger", b" than"], self.closed, "/too-long-in-pieces")

    def two_lengths(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "4"), ("content-length", "2")])
        return [b"four"]

    def never_started(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        return [b"no start_response"]

    def started_twice(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        start_response("200 OK", [TEXT])
        return [b"twice"]

    def text_as_body(self, environ: Environ, start_response: Any) -> Iterable[Any]:
        start_response("200 OK", [TEXT])
        return ["text, not bytes"]

    def no_result(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [TEXT])

    def raises(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        raise Failure("before start_response")

    def raises_os_error(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """A fault of its own that has nothing to do with the client."""
        raise FileNotFoundError("the application's own")

    def raises_timeout(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """gevent.Timeout is a BaseException."""
        raise gevent.Timeout(1)

    def raises_after_start(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        raise Failure("after start_response")

    def raises_in_body(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The headers are sent by then."""
        start_response("200 OK", [TEXT])
        return Pieces(_fails_after(b"one,"), self.closed, "/raises-in-body")

    def raises_in_body_os_error(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return Pieces(
            _fails_after(b"one,", failure=FileNotFoundError("its own")), self.closed, "os"
        )

    def raises_at_once_in_body(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """start_response was called, nothing is sent yet."""
        start_response("200 OK", [TEXT, ("X-Lost", "yes")])
        return Pieces(_fails_after(), self.closed, "/raises-at-once-in-body")

    def raises_in_close(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Content-Length", "4")])

        class Result(list[bytes]):
            def close(self) -> None:
                raise Failure("in close")

        return Result([b"fine"])

    def replaces_answer(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """exc_info before anything is sent: the new status and headers stand."""
        start_response("200 OK", [TEXT, ("X-Old", "old")])
        try:
            raise Failure("handled")
        except Failure as failure:
            exc_info = (type(failure), failure, failure.__traceback__)
            start_response("503 Service Unavailable", [TEXT, ("X-New", "new")], exc_info)
        return [b"replaced"]

    def replaces_too_late(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """exc_info when the headers are gone: it is raised again."""
        write = start_response("200 OK", [TEXT])
        write(b"one,")
        try:
            raise Failure("too late")
        except Failure as failure:
            exc_info = (type(failure), failure, failure.__traceback__)
            try:
                start_response("500 Internal Server Error", [TEXT], exc_info)
            except Failure as raised:
                self.failures.append(raised)
                raise
        return [b"never"]

    def header(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """A header from the body: its name, a colon and the value, all as they are."""
        text = environ["wsgi.input"].read(ALL).decode("utf-8")
        name, _, value = text.partition(":")
        start_response("200 OK", [TEXT, (name, value)])
        return [b"sent"]

    def status_line(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The status line from the body."""
        start_response(environ["wsgi.input"].read(ALL).decode("utf-8"), [TEXT])
        return [b"sent"]


class File:
    """A file of 2,500 bytes that knows whether it was closed."""

    def __init__(self, closed: list[str]) -> None:
        self._left = 2500
        self._closed = closed

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return b"f" * size

    def close(self) -> None:
        self._closed.append("/file")


def _fails_after(*pieces: bytes, failure: BaseException | None = None) -> Iterator[bytes]:
    yield from pieces
    raise failure or Failure("in the body")


def _is_told(name: str) -> bool:
    return name.startswith(("HTTP_", "CONTENT_", "SERVER_PROTOCOL", "REMOTE_ADDR", "wsgi.url_"))


#: Every method but the constructor's is a route: `too_short` is ``/too-short``.
ROUTES: dict[str, Callable[..., Any]] = {
    "/" + name.replace("_", "-"): function
    for name, function in vars(Application).items()
    if not name.startswith("_") and name != "reset" and callable(function)
}
