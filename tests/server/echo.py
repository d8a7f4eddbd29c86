"""A service for the tests of the endpoint, and how they talk to it."""

from gevent.event import Event

import gemstone_sync
from tests.support.http import JSON, call_body, chunked, message

BODY_LIMIT = 1000


class Echo(gemstone_sync.MicroService):
    name = "echo"
    max_body_size = BODY_LIMIT

    def on_service_start(self):
        self.executed = 0
        self.holding = 0
        self.release = Event()

    @gemstone_sync.exposed_method()
    def echo(self, value="nothing"):
        self.executed += 1
        return value

    @gemstone_sync.exposed_method()
    def hold(self):
        self.holding += 1
        self.release.wait()
        return "held"

    @gemstone_sync.route("/two-pieces")
    def two_pieces(self):
        return iter(["one", "two"])


def post(body, **headers):
    """A request to the endpoint; `headers` have underscores for dashes."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return message("POST", "/api", {**JSON, **given}, body)


def filler(size):
    """A call of exactly so many bytes."""
    bare = call_body("echo", "")
    return call_body("echo", "x" * (size - len(bare)))


def assert_refused(reply, status):
    """A fault of the transport: HTTP's own code, a JSON-RPC error as body."""
    assert reply.status == status
    assert reply.headers.get("Content-Type") == "application/json"
    assert reply.json["jsonrpc"] == "2.0"
    assert reply.json["error"]["code"] == -32600
    assert reply.json["id"] is None


def assert_ends_cleanly(connection, reply):
    """The reply says that the connection ends, and it does."""
    assert reply.closes
    assert connection.is_ended()


def framed(body, framing):
    if framing == "Content-Length":
        return post(body)
    pieces = (
        [body] if framing == "one chunk" else [body[i : i + 97] for i in range(0, len(body), 97)]
    )
    return post(chunked(*pieces), Transfer_Encoding="chunked")
