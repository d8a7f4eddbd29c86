"""The endpoint's way without Flask: when it is taken, and that every default acts on it.

That a user's Flask function is never bypassed is tested kind by kind in `test_flask_sees`; here are
the kinds beside those, and the proof that the defaults below are tested on the fast path at all.
"""

import time

import flask
import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync.concurrency import current_call
from tests.support.http import (
    JSON,
    Connection,
    call,
    call_body,
    call_message,
    exchange,
    message,
    refuses_connections,
    result_of,
)
from tests.support.waiting import gather, wait_until


class Defaults(gemstone_sync.MicroService):
    """Every default on; nothing but methods."""

    name = "defaults"

    def on_service_start(self):
        self.executed = 0
        self.holding = 0
        self.release = Event()

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        self.executed += 1
        return a + b

    @gemstone_sync.exposed_method()
    def hold(self) -> str:
        self.holding += 1
        self.release.wait()
        return "held"

    @gemstone_sync.exposed_method()
    def seconds_left(self) -> float | None:
        return current_call.get().seconds_left()

    @gemstone_sync.exposed_method()
    def long_text(self, length: int) -> str:
        return "x" * length

    @gemstone_sync.exposed_method()
    def fail(self) -> None:
        raise LookupError("a secret")

    @gemstone_sync.exposed_method()
    def refuse(self) -> None:
        raise gemstone_sync.RpcError("Out of stock", code=1001)


class FlaskRequests:
    """Counts the requests that Flask makes a request object of."""

    def __init__(self, app):
        self.count = 0
        counter = self

        class Counted(flask.Request):
            def __init__(self, *args, **kwargs):
                counter.count += 1
                super().__init__(*args, **kwargs)

        app.request_class = Counted


@pytest.fixture
def start(running_service):
    """Start a service that never needs Flask; checked at the end."""
    counters = []

    def start(service=Defaults, **attributes):
        service = service() if isinstance(service, type) else service
        for name, value in attributes.items():
            setattr(service, name, value)
        counters.append(FlaskRequests(service.app))
        return running_service(service)

    yield start

    assert counters
    assert [counter.count for counter in counters] == [0] * len(counters)


@pytest.fixture
def service(start):
    return start()


def error_of(reply, status=200):
    assert reply.status == status, reply
    return reply.json["error"]


# Which way is taken


def test_calls_notifications_and_batches_need_no_flask(service):
    with Connection(service.port) as connection:
        assert result_of(connection.call("add", 1, 2)) == 3
        notification = b'{"jsonrpc":"2.0","method":"add","params":[1,2]}'
        for body in (notification, b"[%b]" % call_body("add", 1, 2), b"{", b"[]"):
            assert connection.exchange(message("POST", "/api", JSON, body)).status in (200, 204)
    assert service.executed == 3


def test_refusals_need_no_flask(service):
    for sent in (
        message("GET", "/api"),
        message("OPTIONS", "/api"),
        message("POST", "/api", {"Content-Type": "text/plain"}, b"x"),
        message("GET", "/health/ready"),
    ):
        exchange(service.port, sent)


def goes_through_flask(running_service, service):
    """Whether a call does; it works either way."""
    requests = FlaskRequests(service.app)
    running = running_service(service)
    assert result_of(call(running.port, "add", 1, 2)) == 3
    return bool(requests.count)


@pytest.mark.parametrize(
    "register",
    [
        lambda pages: pages.after_app_request(lambda response: response),
        lambda pages: pages.teardown_app_request(lambda error: None),
        lambda pages: pages.app_url_value_preprocessor(lambda endpoint, values: None),
        lambda pages: pages.app_errorhandler(415)(lambda error: ("mine", 415)),
    ],
    ids=["after_request", "teardown_request", "url_value_preprocessor", "errorhandler"],
)
def test_what_a_blueprint_registers_for_the_whole_app(running_service, register):
    pages = flask.Blueprint("pages", __name__)
    register(pages)
    service = Defaults()
    service.blueprints = [pages]

    assert goes_through_flask(running_service, service)


def test_what_a_blueprint_registers_for_its_own_pages(running_service):
    """The endpoint is none of them."""
    pages = flask.Blueprint("pages", __name__)
    pages.before_request(lambda: None)
    pages.after_request(lambda response: response)
    pages.teardown_request(lambda error: None)
    pages.errorhandler(404)(lambda error: ("mine", 404))
    service = Defaults()
    service.blueprints = [pages]

    assert not goes_through_flask(running_service, service)


def test_a_receiver_of_got_request_exception(running_service):
    """It is there for what other functions raise; with one, Flask is in charge."""
    service = Defaults()
    receive = lambda sender, **kwargs: None  # noqa: E731  # signals hold their receivers weakly

    with flask.signals.got_request_exception.connected_to(receive, service.app):
        assert goes_through_flask(running_service, service)
    assert not goes_through_flask(running_service, Defaults())


def test_a_function_that_is_registered_while_the_service_runs(running_service):
    service = running_service(Defaults)
    seen = []
    assert result_of(call(service.port, "add", 1, 2)) == 3

    service.app.before_request(lambda: seen.append(flask.request.path))

    assert result_of(call(service.port, "add", 1, 2)) == 3
    assert seen == ["/api"]


def test_a_service_with_flask_functions_does_not_slow_its_neighbour(running_service):
    """What one app's user registers is no concern of another app in the same process."""
    first, second = Defaults(), Defaults()
    first.app.before_request(lambda: None)

    assert goes_through_flask(running_service, first)
    assert not goes_through_flask(running_service, second)


# Who may


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", "127.0.0.1.evil.example"])
def test_allowed_hosts(service, host):
    assert error_of(call(service.port, "add", 1, 2, headers={"Host": host}), 403)
    assert service.executed == 0
    assert result_of(call(service.port, "add", 1, 2, headers={"Host": "localhost"})) == 3


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_allowed_origins(service, origin):
    assert error_of(call(service.port, "add", 1, 2, headers={"Origin": origin}), 403)
    assert service.executed == 0
    own = {"Origin": f"http://127.0.0.1:{service.port}", "Host": f"127.0.0.1:{service.port}"}
    assert result_of(call(service.port, "add", 1, 2, headers=own)) == 3


# How long, how far


def test_deadline_header(service):
    began = time.monotonic()

    reply = call(service.port, "hold", headers={"X-Gemstone-Deadline": "100"})

    assert error_of(reply) == {"code": -32002, "message": "Deadline exceeded"}
    assert 0.09 < time.monotonic() - began < 5


def test_deadline_header_of_a_caller_that_has_given_up(service):
    reply = call(service.port, "add", 1, 2, headers={"X-Gemstone-Deadline": "0"})

    assert error_of(reply)["code"] == -32002
    assert service.executed == 0


def test_deadline_header_is_what_the_method_has_left(service):
    reply = call(service.port, "seconds_left", headers={"X-Gemstone-Deadline": "5000"})

    assert 4 < result_of(reply) <= 5


def test_default_timeout(service):
    assert 29 < result_of(call(service.port, "seconds_left")) <= 30
    # A caller cannot lengthen it.
    reply = call(service.port, "seconds_left", headers={"X-Gemstone-Deadline": "60000"})
    assert 29 < result_of(reply) <= 30


def test_default_timeout_ends_a_call(start):
    service = start(default_timeout=0.1)

    assert error_of(call(service.port, "hold"))["code"] == -32002
    assert result_of(call(service.port, "add", 1, 2)) == 3


def test_hops(service):
    assert result_of(call(service.port, "add", 1, 2, headers={"X-Gemstone-Hops": "8"})) == 3

    reply = call(service.port, "add", 1, 2, headers={"X-Gemstone-Hops": "9"})

    assert error_of(reply) == {"code": -32003, "message": "Too many hops"}
    assert service.executed == 1


# Hooks


class Hooked(Defaults):
    def on_service_start(self):
        super().on_service_start()
        self.seen = []

    def before_method_call(self, request):
        self.seen.append(f"before {request.method}")
        if request.params == [0, 0]:
            raise gemstone_sync.RpcError("Nothing to add", code=1)

    def after_method_call(self, request, response):
        self.seen.append(f"after {response.result}")
        return response.with_result(response.result + 100)

    def on_failed_method_call(self, request, response):
        self.seen.append(f"failed {response.error.code}")


def test_hooks(start):
    service = start(Hooked)

    assert result_of(call(service.port, "add", 1, 2)) == 103
    assert error_of(call(service.port, "add", 0, 0))["code"] == 1
    assert error_of(call(service.port, "refuse"))["code"] == 1001
    assert service.seen == [
        *("before add", "after 3"),
        *("before add", "failed 1"),
        *("before refuse", "failed 1001"),
    ]
    assert service.executed == 1


def test_hooks_of_plugins(start):
    seen = []

    class Watching(gemstone_sync.BasePlugin):
        name = "watching"

        def on_method_call(self, request):
            seen.append(request.method)

        def on_internal_error(self, error):
            seen.append(type(error))

    service = Defaults()
    service.register_plugin(Watching())
    service = start(service)

    assert result_of(call(service.port, "add", 1, 2)) == 3
    assert error_of(call(service.port, "fail"))["code"] == -32603
    assert seen == ["add", "fail", LookupError]


def test_statistics(start):
    service = start(use_statistics=True)

    result_of(call(service.port, "add", 1, 2))
    call(service.port, "refuse")

    methods = result_of(call(service.port, "statistics"))["methods"]
    assert (methods["add"]["calls"], methods["add"]["errors"]) == (1, 0)
    assert (methods["refuse"]["calls"], methods["refuse"]["errors"]) == (1, 1)


def test_errors_are_masked(service, caplog):
    error = error_of(call(service.port, "fail"))

    assert error["message"] == "Internal error"
    assert list(error["data"]) == ["error_id"]
    assert error["data"]["error_id"] in caplog.text
    assert "a secret" in caplog.text


# How much


def test_body_limit(service):
    """10 MB."""
    too_long = message("POST", "/api", {**JSON, "Content-Length": "10000001"}, None)
    with Connection(service.port) as connection:
        connection.send(too_long)
        assert error_of(connection.read_reply(), 413)
    assert service.executed == 0

    body = call_body("add", 1, 2)
    longest = message("POST", "/api", JSON, body + b" " * (10_000_000 - len(body)))
    assert result_of(exchange(service.port, longest)) == 3


def batch(*bodies):
    return message("POST", "/api", JSON, b"[" + b",".join(bodies) + b"]")


def test_batch_cap(service):
    """100 calls."""
    item = call_body("add", 1, 2)

    assert error_of(exchange(service.port, batch(*[item] * 101)))["code"] == -32600
    assert service.executed == 0
    assert len(exchange(service.port, batch(*[item] * 100)).json) == 100
    assert service.executed == 100


def test_response_cap(service):
    """16 MB."""
    assert error_of(call(service.port, "long_text", 16_000_001)) == {
        "code": -32004,
        "message": "Response too large",
    }
    assert len(result_of(call(service.port, "long_text", 15_999_000))) == 15_999_000


def test_call_bound(service):
    """1,000 calls run, 200 wait, the next is turned away at once: batches bring them quickly."""
    held = batch(*[call_body("hold")] * 100)
    connections = [Connection(service.port) for _ in range(12)]
    try:
        for connection in connections:
            connection.send(held)
        slots = service.dispatcher.slots
        wait_until(lambda: slots.waiting == 200, "1,200 calls")
        assert slots.in_use == service.holding == 1000

        reply = call(service.port, "add", 1, 2)

        assert error_of(reply, 503) == {"code": -32000, "message": "Server overloaded"}
        assert int(reply.headers.get("Retry-After")) >= 1
        assert service.executed == 0
        service.release.set()
        for reply in gather([connection.read_reply for connection in connections]):
            assert [item["result"] for item in reply.json] == ["held"] * 100
    finally:
        for connection in connections:
            connection.socket.close()
    assert result_of(call(service.port, "add", 1, 2)) == 3


def test_the_wait_for_a_place_is_bounded(start):
    service = start(max_parallel_blocking_tasks=1, max_wait_seconds=0.1)
    with Connection(service.port) as first:
        first.send(call_message("hold"))
        wait_until(lambda: service.holding, "the first call")

        began = time.monotonic()
        reply = call(service.port, "add", 1, 2)

        assert error_of(reply, 503)["code"] == -32000
        assert 0.09 < time.monotonic() - began < 5
        service.release.set()
        assert result_of(first.read_reply()) == "held"


# Beginning and end


def test_calls_are_refused_until_the_start_is_done(start):
    class Slow(Defaults):
        def on_service_start(self):
            super().on_service_start()
            self.early = call(self.port, "add", 1, 2)
            self.early_health = exchange(self.port, message("GET", "/health/ready"))

    service = start(Slow)

    assert error_of(service.early, 503) == {"code": -32000, "message": "Service is starting"}
    assert service.early_health.status == 503
    assert service.executed == 0
    assert result_of(call(service.port, "add", 1, 2)) == 3


def test_draining(service):
    """A call in flight is answered, connections that are open are told to end, new ones refused."""
    with Connection(service.port) as busy, Connection(service.port) as idle:
        assert result_of(idle.call("add", 1, 2)) == 3
        busy.send(call_message("hold"))
        wait_until(lambda: service.holding, "the call")

        stopping = gevent.spawn(service.stop, grace=5.0)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        last = idle.call("add", 3, 4)
        service.release.set()
        held = busy.read_reply()

        assert (result_of(last), result_of(held)) == (7, "held")
        assert last.closes
        assert held.closes
        stopping.get(timeout=10)
