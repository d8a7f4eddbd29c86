"""A user's Flask function sees the endpoint's requests too, one test per kind.

The endpoint answers without Flask where nobody needs it: that must not be seen.
"""

import flask
import pytest

import gemstone_sync
from tests.support.http import JSON, call, exchange, message, result_of


class Adder(gemstone_sync.MicroService):
    name = "adder"

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def agent(self, handler) -> str:
        return handler.headers["User-Agent"]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def adder():
    return Adder()


def assert_seen(running_service, service, seen, expected):
    """The call works, and was seen, once."""
    running = running_service(service)

    assert result_of(call(running.port, "add", 1, 2)) == 3
    assert seen == [expected]


def test_before_request(running_service, adder, seen):
    @adder.app.before_request
    def before():
        seen.append(flask.request.path)

    assert_seen(running_service, adder, seen, "/api")


def test_before_request_may_answer_itself(running_service, adder):
    @adder.app.before_request
    def before():
        if "X-Pass" not in flask.request.headers:
            return "not today", 418
        return None

    service = running_service(adder)

    assert call(service.port, "add", 1, 2).status == 418
    assert result_of(call(service.port, "add", 1, 2, headers={"X-Pass": "yes"})) == 3


def test_before_request_may_read_the_body(running_service, adder, seen):
    @adder.app.before_request
    def before():
        seen.append(flask.request.get_json()["method"])

    assert_seen(running_service, adder, seen, "add")


def test_before_request_reads_no_more_than_the_limit(running_service, adder, seen):
    adder.max_body_size = 100

    @adder.app.before_request
    def before():
        seen.append(len(flask.request.get_data()))

    service = running_service(adder)

    assert result_of(call(service.port, "add", 1, 2)) == 3
    for framing in ({}, {"Transfer-Encoding": "chunked"}):
        body = b"x" * 101 if not framing else b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n"
        reply = exchange(service.port, message("POST", "/api", {**JSON, **framing}, body))

        assert reply.status == 413
    assert len(seen) == 1


def test_before_app_request_of_a_blueprint(running_service, adder, seen):
    pages = flask.Blueprint("pages", __name__)
    pages.before_app_request(lambda: seen.append(flask.request.path))
    adder.blueprints = [pages]

    assert_seen(running_service, adder, seen, "/api")


def test_after_request(running_service, adder, seen):
    @adder.app.after_request
    def after(response):
        seen.append(response.status_code)
        response.headers["X-Seen"] = "yes"
        return response

    assert_seen(running_service, adder, seen, 200)
    assert call(adder.port, "add", 1, 2).headers.get_all("X-Seen") == ["yes"]


def test_teardown_request(running_service, adder, seen):
    adder.app.teardown_request(seen.append)

    assert_seen(running_service, adder, seen, None)


def test_teardown_appcontext(running_service, adder, seen):
    adder.app.teardown_appcontext(seen.append)

    assert_seen(running_service, adder, seen, None)


def test_url_value_preprocessor(running_service, adder, seen):
    @adder.app.url_value_preprocessor
    def preprocess(endpoint, values):
        seen.append(endpoint)

    assert_seen(running_service, adder, seen, "jsonrpc")


@pytest.mark.parametrize(
    "name",
    [
        "request_started",
        "request_finished",
        "request_tearing_down",
        "appcontext_pushed",
        "appcontext_popped",
        "appcontext_tearing_down",
    ],
)
def test_signal_receiver(running_service, adder, seen, name):
    def receive(sender, **kwargs):
        seen.append(sender)

    signal = getattr(flask.signals, name)
    with signal.connected_to(receive, adder.app):
        assert_seen(running_service, adder, seen, adder.app)


def test_signal_receiver_of_every_sender(running_service, adder, seen):
    def receive(sender, **kwargs):
        seen.append(sender)

    with flask.signals.request_started.connected_to(receive):
        assert_seen(running_service, adder, seen, adder.app)


def test_signal_receiver_that_comes_later(running_service, adder, seen):
    """Whether Flask is needed is decided for each request."""
    service = running_service(adder)
    assert result_of(call(service.port, "add", 1, 2)) == 3

    def receive(sender, **kwargs):
        seen.append(flask.request.path)

    with flask.signals.request_started.connected_to(receive, adder.app):
        assert result_of(call(service.port, "add", 1, 2)) == 3
    assert result_of(call(service.port, "add", 1, 2)) == 3
    assert seen == ["/api"]


@pytest.mark.parametrize(
    ("handled", "sent", "status"),
    [
        (405, message("GET", "/api"), 405),
        (415, message("POST", "/api", {"Content-Type": "text/plain"}, b"x"), 415),
        (413, message("POST", "/api", JSON, b"x" * 201), 413),
        (Exception, message("GET", "/api"), 405),
    ],
)
def test_error_handler(running_service, adder, seen, handled, sent, status):
    adder.max_body_size = 200

    @adder.app.errorhandler(handled)
    def handle(error):
        seen.append(error.code)
        return "mine", error.code

    service = running_service(adder)
    reply = exchange(service.port, sent)

    assert (reply.status, reply.body) == (status, b"mine")
    assert seen == [status]
    assert result_of(call(service.port, "add", 1, 2)) == 3


def test_error_handler_of_503(running_service, adder, seen):
    adder.max_parallel_blocking_tasks = 1
    adder.max_waiting_calls = 0

    @adder.app.errorhandler(503)
    def handle(error):
        seen.append(error.code)
        return error

    service = running_service(adder)
    service.dispatcher.slots.acquire()  # the one place
    try:
        reply = call(service.port, "add", 1, 2)
    finally:
        service.dispatcher.slots.release()

    assert reply.status == 503
    assert reply.headers.get("Retry-After") == "1"
    assert reply.json["error"]["code"] == -32000
    assert seen == [503]


def test_wsgi_middleware_of_the_user(running_service, adder, seen):
    inner = adder.app.wsgi_app

    def middleware(environ, start_response):
        seen.append(environ["PATH_INFO"])
        return inner(environ, start_response)

    adder.app.wsgi_app = middleware

    assert_seen(running_service, adder, seen, "/api")


def test_the_handler_sees_the_request_with_and_without_flask(running_service, adder):
    agent = {"User-Agent": "the test"}
    service = running_service(adder)
    assert result_of(call(service.port, "agent", headers=agent)) == "the test"

    other = Adder()
    other.app.before_request(lambda: None)
    service = running_service(other)
    assert result_of(call(service.port, "agent", headers=agent)) == "the test"
