"""The web application beside the endpoint: extra routes, templates, and Flask's own tools."""

import subprocess
import sys
import threading

import flask
import flask.views
import pytest

import gemstone_sync
from tests.support.http import (
    JSON,
    Connection,
    call,
    call_body,
    exchange,
    message,
    result_of,
)
from tests.support.waiting import LIMIT


def get(service, path, headers=None):
    return exchange(service.port, message("GET", path, headers))


class Adder(gemstone_sync.MicroService):
    name = "adder"

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b


# Extra handlers


def plain_view(user_id):
    return f"user {user_id} by {flask.request.method}"


class PlainMethodView(flask.views.MethodView):
    def get(self, word):
        return f"got {word}"

    def put(self, word):
        return f"put {flask.request.get_data(as_text=True)} at {word}"


class NameHandler(gemstone_sync.GemstoneCustomHandler):
    def get(self):
        return {"name": self.microservice.name, "sum": self.microservice.add(1, 2)}


class WebService(Adder):
    extra_handlers = [
        ("/users/<int:user_id>", plain_view),
        ("/words/<word>", PlainMethodView),
        ("/name", NameHandler),
        ("/drop/<int:user_id>", plain_view, {"methods": ["DELETE"]}),
    ]

    @gemstone_sync.route("/status")
    def status(self):
        return {"service": self.name}

    @gemstone_sync.route("/double/<int:number>", methods=["POST"])
    def double(self, number):
        return str(self.add(number, number))

    @gemstone_sync.route("/one")
    @gemstone_sync.route("/two")
    def both(self):
        return flask.request.path

    @gemstone_sync.exposed_method()
    @gemstone_sync.route("/answer")
    def answer(self):
        return "42"


@pytest.mark.parametrize(
    ("verb", "path", "status", "body"),
    [
        ("GET", "/users/7", 200, b"user 7 by GET"),
        ("GET", "/users/seven", 404, None),
        ("POST", "/users/7", 405, None),
        ("GET", "/words/yes", 200, b"got yes"),
        ("PUT", "/words/yes", 200, b"put this at yes"),
        ("DELETE", "/words/yes", 405, None),
        ("GET", "/name", 200, b'{"name":"adder","sum":3}\n'),
        ("DELETE", "/drop/7", 200, b"user 7 by DELETE"),
        ("GET", "/drop/7", 405, None),
        ("GET", "/status", 200, b'{"service":"adder"}\n'),
        ("POST", "/double/21", 200, b"42"),
        ("GET", "/one", 200, b"/one"),
        ("GET", "/two", 200, b"/two"),
        ("GET", "/answer", 200, b"42"),
        ("GET", "/api/", 404, None),
        ("GET", "/", 404, None),
    ],
)
def test_extra_routes(running_service, verb, path, status, body):
    service = running_service(WebService)

    reply = exchange(service.port, message(verb, path, {}, b"this"))

    assert reply.status == status
    if body is not None:
        assert reply.body == body


def test_the_endpoint_works_beside_extra_routes(running_service):
    service = running_service(WebService)

    assert result_of(call(service.port, "add", 1, 2)) == 3
    assert result_of(call(service.port, "answer")) == "42"


def test_two_services_with_the_same_handlers_are_apart(running_service):
    class Other(WebService):
        name = "other"

    services = [running_service(WebService), running_service(Other)]

    assert [get(service, "/name").json["name"] for service in services] == ["adder", "other"]
    assert [get(service, "/status").json["service"] for service in services] == ["adder", "other"]


def test_a_failing_view_is_a_500_without_its_text(running_service, caplog):
    class Failing(Adder):
        @gemstone_sync.route("/fail")
        def fail(self):
            raise RuntimeError("a secret")

    service = running_service(Failing)
    with Connection(service.port) as connection:
        reply = connection.exchange(message("GET", "/fail"))

        assert reply.status == 500
        assert b"secret" not in reply.body
        assert "a secret" in caplog.text
        assert result_of(connection.call("add", 1, 2)) == 3


@pytest.mark.parametrize(
    "handlers",
    [
        [("users", plain_view)],  # not from the root
        [(r"/users/([0-9]+)", plain_view)],  # tornado's way
        [("/users", 7)],
        [("/users",)],
        ["/users"],
        [("/users", plain_view, {"methods": ["GET"]}, "more")],
    ],
)
def test_handlers_that_are_none_are_refused(handlers):
    service = Adder()
    service.extra_handlers = handlers

    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="extra_handlers"):
        service.app  # noqa: B018


# Blueprints and templates


def make_blueprint():
    pages = flask.Blueprint("pages", __name__, url_prefix="/pages")
    pages.seen = []

    @pages.route("/<page>")
    def show(page):
        return f"page {page}"

    @pages.before_request
    def before():
        pages.seen.append(flask.request.path)

    return pages


def test_blueprints(running_service):
    pages = make_blueprint()
    service = running_service(Adder, blueprints=[pages])

    assert get(service, "/pages/home").body == b"page home"
    assert result_of(call(service.port, "add", 1, 2)) == 3
    assert pages.seen == ["/pages/home"]  # its functions are for its own pages


def test_templates(running_service, tmp_path):
    (tmp_path / "hello.html").write_text("<p>hello {{ name }} of {{ request.path }}</p>")

    class Pages(Adder):
        @gemstone_sync.route("/hello/<name>")
        def hello(self, name):
            return flask.render_template("hello.html", name=name)

    service = running_service(Pages, template_dir=str(tmp_path))

    reply = get(service, "/hello/%3Cyou%3E")

    assert reply.body == b"<p>hello &lt;you&gt; of /hello/&lt;you&gt;</p>"
    assert reply.headers.get("Content-Type").startswith("text/html")


# Flask's own tools


@pytest.fixture
def adder():
    return Adder()


def test_the_app_is_flask(adder):
    assert type(adder.app) is flask.Flask
    assert adder.app is adder.app
    fresh = adder.make_flask_app()
    assert type(fresh) is flask.Flask
    assert fresh is not adder.app

    client = fresh.test_client()
    reply = client.post("/api", data=call_body("add", 1, 2), headers=JSON)
    assert reply.get_json()["result"] == 3


def test_sessions_with_a_secret_key(running_service):
    class Counter(Adder):
        secret_key = "not for production"

        @gemstone_sync.route("/count")
        def count(self):
            flask.session["visits"] = flask.session.get("visits", 0) + 1
            return str(flask.session["visits"])

    service = running_service(Counter)
    first = get(service, "/count")
    cookie = first.headers.get("Set-Cookie").partition(";")[0]

    assert first.body == b"1"
    assert get(service, "/count", {"Cookie": cookie}).body == b"2"
    assert get(service, "/count", {"Cookie": cookie[:-2]}).body == b"1"  # forged


def test_requests_do_not_mix(running_service):
    """flask.request and flask.g belong to the request, whatever runs at the same time."""
    barrier = threading.Barrier(5)

    class Meeting(Adder):
        @gemstone_sync.route("/meet/<name>")
        def meet(self, name):
            flask.g.name = name
            barrier.wait(LIMIT)
            return f"{name} {flask.g.name} {flask.request.path}"

    service = running_service(Meeting)
    connections = [Connection(service.port) for _ in range(5)]
    for number, connection in enumerate(connections):
        connection.send(message("GET", f"/meet/{number}"))
    bodies = [connection.read_reply().body.decode() for connection in connections]
    for connection in connections:
        connection.socket.close()

    assert bodies == [f"{n} {n} /meet/{n}" for n in range(5)]


PROGRAM = """
import flask
import gemstone_sync

class Listed(gemstone_sync.MicroService):
    name = "listed"
    static_dirs = [("/files", ".")]
    extra_handlers = [("/users/<int:user_id>", lambda user_id: str(user_id))]

    @gemstone_sync.route("/status", methods=["PUT"])
    def status(self):
        return "fine"

service = Listed()
"""


def test_flask_routes_command(tmp_path):
    (tmp_path / "listed.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "flask", "--app", "listed:service.app", "routes"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    routes = {line.split()[-1]: line for line in done.stdout.splitlines() if "/" in line}
    assert set(routes) >= {"/api", "/users/<int:user_id>", "/status", "/files/<path:filename>"}
    assert "PUT" in routes["/status"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_parallel_blocking_tasks", 1), ("max_body_size", 5), ("endpoint", "/x")],
)
def test_an_attribute_set_too_late_is_refused(adder, name, value):
    """The app is made: the new value would silently do nothing."""
    assert adder.app
    adder.port = 0
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match=name):  # noqa: PT012
        setattr(adder, name, value)
        try:
            adder.start(block=False)
        finally:
            adder.stop()


# Clashes


def clash(**attributes):
    service = type("Clash", (Adder,), attributes)()
    with pytest.raises(gemstone_sync.ServiceConfigurationError) as raised:
        service.app  # noqa: B018
    return str(raised.value)


@pytest.mark.parametrize("path", ["/api", "/health/live", "/health/ready"])
def test_a_handler_on_a_path_of_the_service_is_refused(path):
    assert path in clash(extra_handlers=[(path, lambda: "mine")])


@pytest.mark.parametrize("path", ["/api", "/health/ready"])
def test_a_route_on_a_path_of_the_service_is_refused(path):
    assert path in clash(mine=gemstone_sync.route(path)(lambda self: "mine"))


def test_a_blueprint_on_the_endpoint_is_refused():
    pages = flask.Blueprint("pages", __name__)
    pages.add_url_rule("/api", "mine", lambda: "mine")

    assert "/api" in clash(blueprints=[pages])


@pytest.mark.parametrize("name", ["health_live_path", "health_ready_path"])
def test_a_health_path_on_the_endpoint_is_refused(name):
    assert name in clash(**{name: "/api"})


def test_a_clash_with_a_configured_endpoint_is_refused():
    assert "/status" in clash(endpoint="/status", extra_handlers=[("/status", lambda: "mine")])


def test_a_free_path_is_free(running_service):
    """What the service does not use may be used."""

    class Free(Adder):
        health_live_path = None
        endpoint = "/rpc"
        extra_handlers = [("/health/live", lambda: "mine"), ("/api", lambda: "my api")]

    service = running_service(Free)

    assert get(service, "/health/live").body == b"mine"
    assert get(service, "/api").body == b"my api"
    assert exchange(service.port, message("POST", "/rpc", JSON, call_body("add", 1, 2))).json


# Inheritance


def test_routes_are_inherited(running_service):
    class Child(WebService):
        def status(self):
            return "the child's"

    service = running_service(Child)

    assert get(service, "/status").body == b"the child's"
    assert get(service, "/one").body == b"/one"


def test_a_view_sees_its_own_service_in_app_context(running_service):
    class Known(Adder):
        @gemstone_sync.route("/who")
        def who(self):
            return str(flask.current_app.extensions["gemstone_sync"] is self)

    assert get(running_service(Known), "/who").body == b"True"
