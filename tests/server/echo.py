"""The service that most tests of this folder talk to, and how they talk to it."""

import flask
from gevent.event import Event

import gemstone_sync
from tests.support.http import JSON, call_body, chunked, message
from tests.support.waiting import LIMIT

BODY_LIMIT = 1000


class Echo(gemstone_sync.MicroService):
    """Counts what it executes, and keeps what happened in `events`."""

    name = "echo"
    port = 0
    max_body_size = BODY_LIMIT

    def __init__(self):
        super().__init__()
        self.executed = self.holding = 0
        self.release = Event()
        self.events = []

    def on_service_start(self):
        self.events.append("start")

    def on_service_stop(self):
        self.events.append("stop")

    @gemstone_sync.exposed_method()
    def echo(self, value="nothing"):
        self.executed += 1
        return value

    @gemstone_sync.exposed_method()
    def hold(self):
        self.holding += 1
        assert self.release.wait(LIMIT)
        self.events.append("held")
        return "held"

    @gemstone_sync.exposed_method()
    def long_text(self, length):
        return "x" * length

    @gemstone_sync.route("/two-pieces")
    def two_pieces(self):
        return iter(["one", "two"])


def post(body, **headers):
    """A request to the endpoint; `headers` have underscores for dashes."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return message("POST", "/api", {**JSON, **given}, body)


def filler(size):
    """A call of exactly so many bytes."""
    return call_body("echo", "x" * (size - len(call_body("echo", ""))))


def assert_refused(reply, status):
    """A fault of the transport: HTTP's own code, a JSON-RPC error as body."""
    assert reply.status == status, reply
    assert reply.headers.get("Content-Type") == "application/json"
    assert (reply.json["error"]["code"], reply.json["id"]) == (-32600, None)


def assert_ends_cleanly(connection, reply):
    """The reply says that the connection ends, and it does."""
    assert reply.closes
    assert connection.is_ended()


def framed(body, framing):
    if framing == "Content-Length":
        return post(body)
    size = len(body) if framing == "one chunk" else 97
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return post(chunked(*pieces), Transfer_Encoding="chunked")


def flask_requests(app):
    """A list that gets the path of each request that Flask makes a request object of."""
    paths = []

    class Recorded(flask.Request):
        def __init__(self, environ, *args, **kwargs):
            paths.append(environ["PATH_INFO"])
            super().__init__(environ, *args, **kwargs)

    app.request_class = Recorded
    return paths
