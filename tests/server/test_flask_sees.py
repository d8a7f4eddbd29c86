"""A user's Flask function sees the endpoint's requests too, whatever kind it is.

The endpoint answers without Flask where nobody needs it: that must not be seen.
"""

import flask
import pytest

import gemstone_sync
from gemstone_sync.testing import ServiceClient
from tests.support.http import JSON, Connection, call, call_body, exchange, message, result_of

from .echo import BODY_LIMIT, Echo, flask_requests, post


class Agent(Echo):
    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def agent(self, handler) -> str:
        return handler.headers["User-Agent"]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def service():
    return Echo()


def assert_seen(running_service, service, seen, expected):
    """The call works, and was seen, once."""
    running = running_service(service)

    assert result_of(call(running.port, "echo", 3)) == 3
    assert seen == [expected]


def of_blueprint(register):
    """Have a blueprint register it, for the whole app."""

    def add(app, see):
        pages = flask.Blueprint("pages", __name__)
        register(pages, see)
        app.register_blueprint(pages)

    return add


def by_middleware(app, see):
    inner = app.wsgi_app

    def middleware(environ, start_response):
        see(environ["PATH_INFO"])
        return inner(environ, start_response)

    app.wsgi_app = middleware


def see_status(see):
    def after(response):
        see(response.status_code)
        return response

    return after


KINDS = {
    "before_request": (
        lambda app, see: app.before_request(lambda: see(flask.request.path)),
        "/api",
    ),
    "before_request_reads_the_body": (
        lambda app, see: app.before_request(lambda: see(flask.request.get_json()["method"])),
        "echo",
    ),
    "after_request": (lambda app, see: app.after_request(see_status(see)), 200),
    "teardown_request": (lambda app, see: app.teardown_request(see), None),
    "teardown_appcontext": (lambda app, see: app.teardown_appcontext(see), None),
    "url_value_preprocessor": (
        lambda app, see: app.url_value_preprocessor(lambda endpoint, values: see(endpoint)),
        "jsonrpc",
    ),
    "before_app_request": (
        of_blueprint(lambda pages, see: pages.before_app_request(lambda: see("before"))),
        "before",
    ),
    "after_app_request": (
        of_blueprint(lambda pages, see: pages.after_app_request(see_status(see))),
        200,
    ),
    "teardown_app_request": (
        of_blueprint(lambda pages, see: pages.teardown_app_request(see)),
        None,
    ),
    "app_url_value_preprocessor": (
        of_blueprint(
            lambda pages, see: pages.app_url_value_preprocessor(lambda name, values: see(name))
        ),
        "jsonrpc",
    ),
    "wsgi_middleware": (by_middleware, "/api"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_of_each_kind(running_service, service, seen, kind):
    register, expected = KINDS[kind]
    register(service.app, seen.append)

    assert_seen(running_service, service, seen, expected)


def test_before_request_may_answer_itself_and_after_request_adds_to_the_answer(
    running_service, service
):
    @service.app.before_request
    def before():
        if "X-Pass" not in flask.request.headers:
            return "not today", 418
        return None

    @service.app.after_request
    def after(response):
        response.headers["X-Seen"] = "yes"
        return response

    service = running_service(service)

    assert call(service.port, "echo", 3).status == 418
    passed = call(service.port, "echo", 3, headers={"X-Pass": "yes"})
    assert result_of(passed) == 3
    assert passed.headers.get_all("X-Seen") == ["yes"]


def test_before_request_reads_no_more_than_the_limit(running_service, service, seen):
    service.app.before_request(lambda: seen.append(len(flask.request.get_data())))
    service = running_service(service)

    assert result_of(call(service.port, "echo", 3)) == 3
    body = b"x" * (BODY_LIMIT + 1)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for sent in (post(body), post(chunks, Transfer_Encoding="chunked")):
        assert exchange(service.port, sent).status == 413
    assert len(seen) == 1


SIGNALS = [
    "request_started",
    "request_finished",
    "request_tearing_down",
    "appcontext_pushed",
    "appcontext_popped",
    "appcontext_tearing_down",
]


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("every_sender", [False, True])
def test_signal_receiver(running_service, service, seen, name, every_sender):
    def receive(sender, **kwargs):
        seen.append(sender)

    signal = getattr(flask.signals, name)
    with signal.connected_to(receive, *([] if every_sender else [service.app])):
        assert_seen(running_service, service, seen, service.app)


def test_a_receiver_or_function_that_comes_later(running_service, service, seen):
    """Each request decides anew whether Flask is needed."""
    port = running_service(service).port
    assert result_of(call(port, "echo", 3)) == 3

    def receive(sender, **kwargs):
        seen.append("receiver")

    with flask.signals.request_started.connected_to(receive, service.app):
        assert result_of(call(port, "echo", 3)) == 3
    assert result_of(call(port, "echo", 3)) == 3
    assert seen == ["receiver"]

    other = running_service(Echo())
    assert result_of(call(other.port, "echo", 3)) == 3
    other.app.before_request(lambda: seen.append("function"))
    assert result_of(call(other.port, "echo", 3)) == 3
    assert seen == ["receiver", "function"]


@pytest.mark.parametrize(
    ("handled", "sent", "status"),
    [
        (405, message("GET", "/api"), 405),
        (415, message("POST", "/api", {"Content-Type": "text/plain"}, b"x"), 415),
        (413, message("POST", "/api", JSON, b"x" * (BODY_LIMIT + 1)), 413),
        (Exception, message("GET", "/api"), 405),
    ],
)
@pytest.mark.parametrize("by_blueprint", [False, True])
def test_error_handler(running_service, service, seen, handled, sent, status, by_blueprint):
    def handle(error):
        seen.append(error.code)
        return "mine", error.code

    if by_blueprint:
        of_blueprint(lambda pages, see: pages.app_errorhandler(handled)(handle))(service.app, None)
    else:
        service.app.errorhandler(handled)(handle)
    running_service(service)
    reply = exchange(service.port, sent)

    assert (reply.status, reply.body) == (status, b"mine")
    assert seen == [status]
    assert result_of(call(service.port, "echo", 3)) == 3


def test_error_handler_of_503(running_service, service, seen):
    service.max_parallel_blocking_tasks = 1
    service.max_waiting_calls = 0

    @service.app.errorhandler(503)
    def handle(error):
        seen.append(error.code)
        return error

    running_service(service)
    service.dispatcher.slots.acquire()  # the one place
    try:
        reply = call(service.port, "echo", 3)
    finally:
        service.dispatcher.slots.release()

    assert reply.status == 503
    assert reply.headers.get("Retry-After") == "1"
    assert reply.json["error"]["code"] == -32000
    assert seen == [503]


# Where nobody needs it


def test_calls_and_refusals_need_no_flask(running_service, service):
    paths = flask_requests(service.app)
    assert ServiceClient(service).call("echo", 3) == 3
    running_service(service)
    notification = b'{"jsonrpc":"2.0","method":"echo","params":[1]}'
    batch = b"[%b]" % call_body("echo", 1)
    with Connection(service.port) as connection:
        assert result_of(connection.call("echo", 3)) == 3
        for sent in (
            *(post(body) for body in (notification, batch, b"{", b"[]")),
            message("GET", "/api"),
            message("OPTIONS", "/api"),
            message("GET", "/health/ready"),
        ):
            assert not connection.exchange(sent).closes
    exchange(service.port, message("POST", "/api", {"Content-Type": "text/plain"}, b"x"))

    assert service.executed == 4
    assert paths == []


def test_what_is_registered_for_other_pages_or_another_service_needs_no_flask(running_service):
    """What one app's user registers is no concern of another app in the same process."""
    pages = flask.Blueprint("pages", __name__)
    pages.before_request(lambda: None)
    pages.after_request(lambda response: response)
    pages.teardown_request(lambda error: None)
    pages.errorhandler(404)(lambda error: ("mine", 404))
    first, second = Echo(), Echo()
    first.blueprints = [pages]
    second.app.before_request(lambda: None)
    paths = [flask_requests(service.app) for service in (first, second)]

    for service in (first, second):
        assert result_of(call(running_service(service).port, "echo", 3)) == 3
    assert paths == [[], ["/api"]]


def test_a_receiver_of_got_request_exception_needs_flask(running_service, service):
    """It is there for what other functions raise; with one, Flask is in charge."""
    paths = flask_requests(service.app)
    receive = lambda sender, **kwargs: None  # noqa: E731  # signals hold their receivers weakly
    running_service(service)

    with flask.signals.got_request_exception.connected_to(receive, service.app):
        assert result_of(call(service.port, "echo", 3)) == 3
    assert paths == ["/api"]


@pytest.mark.parametrize("with_flask", [False, True])
def test_the_handler_sees_the_request_with_and_without_flask(running_service, with_flask):
    service = Agent()
    if with_flask:
        service.app.before_request(lambda: None)

    agent = {"User-Agent": "the test"}
    assert result_of(call(running_service(service).port, "agent", headers=agent)) == "the test"
