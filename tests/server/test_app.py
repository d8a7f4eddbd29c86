"""The web application beside the endpoint: extra routes, templates, and Flask's own tools."""

import threading

import flask
import flask.cli
import flask.views
import pytest
from click.testing import CliRunner

import gemstone_sync
from tests.support.http import JSON, Connection, call, call_body, exchange, message, result_of
from tests.support.waiting import LIMIT, gather


def get(service, path, headers=None):
    return exchange(service.port, message("GET", path, headers))


class Adder(gemstone_sync.MicroService):
    name = "adder"
    port = 0

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

    @gemstone_sync.route("/who")
    def who(self):
        return str(flask.current_app.extensions["gemstone_sync"] is self)

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
        ("GET", "/who", 200, b"True"),
        ("GET", "/api/", 404, None),
        ("GET", "/", 404, None),
    ],
)
def test_extra_routes(running_service, verb, path, status, body):
    service = running_service(WebService)

    reply = exchange(service.port, message(verb, path, {}, b"this"))

    assert reply.status == status
    assert body in (None, reply.body)
    assert result_of(call(service.port, "answer")) == "42"  # a route, and a method too


def test_routes_are_inherited_and_two_services_with_the_same_handlers_are_apart(running_service):
    class Other(WebService):
        name = "other"

        def status(self):
            return "the child's"

    services = [running_service(WebService), running_service(Other)]

    assert [get(service, "/name").json["name"] for service in services] == ["adder", "other"]
    assert get(services[0], "/status").json["service"] == "adder"
    assert get(services[1], "/status").body == b"the child's"
    assert get(services[1], "/one").body == b"/one"


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


def test_blueprints(running_service):
    pages = flask.Blueprint("pages", __name__, url_prefix="/pages")
    pages.add_url_rule("/<page>", "show", lambda page: f"page {page}")
    seen = []
    pages.before_request(lambda: seen.append(flask.request.path))
    service = running_service(Adder, blueprints=[pages])

    assert get(service, "/pages/home").body == b"page home"
    assert result_of(call(service.port, "add", 1, 2)) == 3
    assert seen == ["/pages/home"]  # its functions are for its own pages


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


def test_the_app_is_flask():
    adder = Adder()
    fresh = adder.make_flask_app()
    assert isinstance(adder.app, flask.Flask)
    assert isinstance(fresh, flask.Flask)
    assert adder.app is adder.app is not fresh

    reply = fresh.test_client().post("/api", data=call_body("add", 1, 2), headers=JSON)
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
    replies = gather([lambda n=n: get(service, f"/meet/{n}") for n in range(5)])

    assert [reply.body.decode() for reply in replies] == [f"{n} {n} /meet/{n}" for n in range(5)]


class Listed(WebService):
    static_dirs = [("/files", ".")]


LISTED = Listed()


@pytest.mark.parametrize(
    ("app", "command", "code", "words"),
    [
        ("LISTED.app", "routes", 0, ["/api ", "/users/<int:user_id>", "/files/<path:filename>"]),
        ("LISTED.app", "methods", 0, ["add(a: int, b: int) -> int", "answer()"]),
        ("LISTED", "methods", 0, ["add(a: int, b: int) -> int", "answer()"]),
        ("LISTED.absent", "routes", 2, ["has no attribute 'absent'"]),
        ("LISTED.name", "routes", 2, ["LISTED.name' is no Flask application"]),
    ],
)
def test_flasks_own_command(monkeypatch, app, command, code, words):
    """``flask --app module:service``: a plugin of Flask's command finds the app."""
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")  # which it sets
    done = CliRunner().invoke(flask.cli.cli, ["--app", f"{__name__}:{app}", command])

    assert done.exit_code == code, done.output
    for word in words:
        assert word in done.output


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_parallel_blocking_tasks", 1), ("max_body_size", 5), ("endpoint", "/x")],
)
def test_an_attribute_set_too_late_is_refused(name, value):
    """The app is made: the new value would silently do nothing."""
    adder = Adder()
    assert adder.app
    setattr(adder, name, value)
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match=name):
        adder.start(block=False)


# Clashes


def view():
    return "mine"


BLUEPRINT = flask.Blueprint("pages", __name__)
BLUEPRINT.add_url_rule("/api", "mine", view)


@pytest.mark.parametrize(
    ("named", "attributes"),
    [
        ("/api", {"extra_handlers": [("/api", view)]}),
        ("/health/live", {"extra_handlers": [("/health/live", view)]}),
        ("/health/ready", {"mine": gemstone_sync.route("/health/ready")(lambda self: "mine")}),
        ("/api", {"mine": gemstone_sync.route("/api")(lambda self: "mine")}),
        ("/api", {"blueprints": [BLUEPRINT]}),
        ("/status", {"endpoint": "/status", "extra_handlers": [("/status", view)]}),
        ("health_live_path", {"health_live_path": "/api"}),
        ("health_ready_path", {"health_ready_path": "/api"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_path_of_the_service_itself_is_refused(named, attributes):
    service = type("Clash", (Adder,), attributes)()
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match=named):
        service.app  # noqa: B018


def test_a_free_path_is_free(running_service):
    """What the service does not use may be used."""

    class Free(Adder):
        health_live_path = None
        endpoint = "/rpc"
        extra_handlers = [("/health/live", view), ("/api", lambda: "my api")]

    service = running_service(Free)

    assert get(service, "/health/live").body == b"mine"
    assert get(service, "/api").body == b"my api"
    assert exchange(service.port, message("POST", "/rpc", JSON, call_body("add", 1, 2))).json
