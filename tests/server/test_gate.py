"""Which hosts and origins may: a web page must not reach a service on the developer's machine."""

import contextlib
import socket

import pytest

import gemstone_sync
from tests.support.http import JSON, Connection, Reply, call_body, exchange, message


class Greeter(gemstone_sync.MicroService):
    name = "greeter"

    def on_service_start(self):
        #: Who was greeted: nothing that is refused may be executed.
        self.greeted = []

    @gemstone_sync.exposed_method()
    def greet(self, whom: str) -> str:
        self.greeted.append(whom)
        return f"hello {whom}"

    @gemstone_sync.route("/page")
    def page(self):
        self.greeted.append("reader")
        return "a page"


@pytest.fixture
def greeter(running_service):
    return running_service(Greeter)


def greet(service, headers, verb="POST", host="127.0.0.1") -> Reply:
    sent = message(verb, "/api", {**JSON, **headers}, call_body("greet", "you"))
    with Connection(service.port, host=host) as connection:
        return connection.exchange(sent)


def assert_refused(service, reply):
    """403 with a JSON-RPC error body, and nothing executed."""
    assert reply.status == 403
    assert reply.headers.get("Content-Type") == "application/json"
    assert reply.json["error"]["code"] == -32600
    assert reply.json["id"] is None
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert service.greeted == []


def assert_greeted(service, reply):
    assert reply.status == 200
    assert reply.json["result"] == "hello you"
    assert service.greeted == ["you"]


# Hosts

LOOPBACK_NAMES = [
    "127.0.0.1",
    "127.0.0.1:{port}",
    "127.0.0.1:1",
    "127.8.9.10",
    "localhost",
    "localhost:{port}",
    "LocalHost:{port}",
    "localhost.",
    "api.localhost",
    "[::1]",
    "[::1]:{port}",
]

FOREIGN_NAMES = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "notlocalhost",
    "192.168.0.1",
    "10.0.0.1:{port}",
    "0.0.0.0",  # reaches loopback from a browser, and is no loopback address
    "2130706433",  # 127.0.0.1 as one number
    "0x7f.1",
    "[::2]:{port}",
    "[::ffff:192.168.0.1]",
    "",
]


@pytest.mark.parametrize("host", LOOPBACK_NAMES)
def test_on_loopback_the_loopback_names_are_accepted(greeter, host):
    reply = greet(greeter, {"Host": host.format(port=greeter.port)})

    assert_greeted(greeter, reply)


@pytest.mark.parametrize("host", FOREIGN_NAMES)
def test_on_loopback_a_foreign_host_is_refused(greeter, host):
    reply = greet(greeter, {"Host": host.format(port=greeter.port)})

    assert_refused(greeter, reply)


@pytest.mark.parametrize(
    "host", ["evil.example:127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1/", "a b"]
)
def test_a_malformed_host_is_refused(greeter, host):
    """400 as RFC 9112, section 3.2 has it, or 403: not executed, whichever layer sees it first."""
    reply = greet(greeter, {"Host": host})

    assert reply.status in (400, 403)
    assert greeter.greeted == []


@pytest.mark.parametrize("verb", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("path", ["/page", "/api", "/nothing-here"])
def test_a_foreign_host_is_refused_on_every_path(greeter, verb, path):
    reply = exchange(greeter.port, message(verb, path, {"Host": "evil.example"}))

    assert reply.status == 403
    assert greeter.greeted == []


def test_an_accepted_host_does_not_open_the_door_for_others(greeter):
    for _ in range(3):
        assert greet(greeter, {"Host": "localhost"}).status == 200
        assert greet(greeter, {"Host": "evil.example"}).status == 403


def test_many_host_names_do_not_change_who_may(greeter):
    """What the service remembers of hosts is bounded, and being beyond it decides nothing."""
    for number in range(600):
        assert exchange(greeter.port, message("GET", "/page", {"Host": f"n{number}.localhost"}))

    assert greet(greeter, {"Host": "one-more.localhost"}).status == 200
    assert greet(greeter, {"Host": "evil.example"}).status == 403


def test_the_bound_name_is_accepted(running_service):
    service = running_service(Greeter, host="localhost")

    assert_greeted(service, greet(service, {"Host": f"localhost:{service.port}"}))


def test_a_service_on_ipv6_loopback(running_service):
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        probe.close()
        service = running_service(Greeter, host="::1")

        assert service.url == f"http://[::1]:{service.port}/api"
        reply = greet(service, {"Host": f"[::1]:{service.port}"}, host="::1")
        assert_greeted(service, reply)
        assert greet(service, {"Host": f"[::2]:{service.port}"}, host="::1").status == 403
        return
    pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("host", ["evil.example", "service.example.org:80", "127.0.0.1", "[::2]"])
def test_bound_to_every_address_every_host_is_accepted(running_service, host):
    service = running_service(Greeter, host="0.0.0.0")

    assert_greeted(service, greet(service, {"Host": host}))


ALLOWED = ["api.example.org", "*.Services.example.org", "2001:db8::1"]


@pytest.mark.parametrize(
    "host",
    [
        "api.example.org",
        "api.example.org:8443",
        "API.Example.ORG",
        "api.example.org.",
        "users.services.example.org",
        "a.b.services.example.org:80",
        "[2001:db8::1]:8000",
    ],
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_listed_hosts_are_accepted(running_service, host, bound):
    service = running_service(Greeter, host=bound, allowed_hosts=ALLOWED)

    assert_greeted(service, greet(service, {"Host": host}))


@pytest.mark.parametrize(
    "host",
    [
        "services.example.org",  # the pattern is for names below
        "xservices.example.org",
        "services.example.org.evil.example",
        "example.org",
        "www.api.example.org",
        "127.0.0.1",  # the list replaces the default
        "localhost",
    ],
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_hosts_that_are_not_listed_are_refused(running_service, host, bound):
    service = running_service(Greeter, host=bound, allowed_hosts=ALLOWED)

    assert_refused(service, greet(service, {"Host": host}))


def test_a_star_accepts_every_host(running_service):
    service = running_service(Greeter, allowed_hosts=["*"])

    assert_greeted(service, greet(service, {"Host": "whatever.example"}))


# Origins


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1:1",  # another port is another origin
        "http://localhost:{port}",  # and so is another name for the same machine
        "http://127.0.0.1:{port}.evil.example",
        "null",  # a sandboxed frame, a file
        "",
        "127.0.0.1:{port}",  # no origin at all
    ],
)
def test_a_foreign_origin_is_refused(greeter, origin):
    headers = {
        "Host": f"127.0.0.1:{greeter.port}",
        "Origin": origin.format(port=greeter.port),
    }

    assert_refused(greeter, greet(greeter, headers))


def test_a_foreign_origin_is_refused_on_other_routes_too(greeter):
    headers = {"Origin": "https://evil.example"}

    assert exchange(greeter.port, message("GET", "/page", headers)).status == 403
    assert greeter.greeted == []


def test_the_service_may_be_called_by_its_own_pages(greeter):
    host = f"127.0.0.1:{greeter.port}"

    reply = greet(greeter, {"Host": host, "Origin": f"http://{host}"})

    assert_greeted(greeter, reply)
    assert "Access-Control-Allow-Origin" not in reply.headers


ORIGINS = ["https://app.example.org", "http://localhost:3000"]


@pytest.fixture
def web_greeter(running_service):
    return running_service(Greeter, allowed_origins=ORIGINS)


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_allowed_origin_gets_cors_headers(web_greeter, origin):
    reply = greet(web_greeter, {"Origin": origin})

    assert_greeted(web_greeter, reply)
    assert reply.headers.get_all("Access-Control-Allow-Origin") == [origin]
    assert "origin" in reply.headers.get("Vary").lower()


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.org.evil.example",
        "https://evil.example",
        "https://evilapp.example.org",
        "http://app.example.org",  # the scheme belongs to it
        "https://app.example.org:444",
        "https://sub.app.example.org",
        "null",
    ],
)
def test_an_origin_that_is_not_listed_is_refused(web_greeter, origin):
    assert_refused(web_greeter, greet(web_greeter, {"Origin": origin}))


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, call_body("greet", "you"), 415),
        (JSON, b"no json", 200),
        (JSON, call_body("nothing"), 200),
    ],
)
def test_an_allowed_page_may_read_errors_too(web_greeter, headers, body, status):
    sent = message("POST", "/api", {**headers, "Origin": ORIGINS[0]}, body)

    reply = exchange(web_greeter.port, sent)

    assert reply.status == status
    assert reply.headers.get("Access-Control-Allow-Origin") == ORIGINS[0]
    assert reply.json["error"]


def test_extra_routes_have_cors_headers_too(web_greeter):
    reply = exchange(web_greeter.port, message("GET", "/page", {"Origin": ORIGINS[0]}))

    assert reply.body == b"a page"
    assert reply.headers.get("Access-Control-Allow-Origin") == ORIGINS[0]


def test_any_origin(running_service):
    service = running_service(Greeter, allowed_origins=["*"])

    reply = greet(service, {"Origin": "https://whatever.example"})

    assert_greeted(service, reply)
    assert reply.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    assert "Access-Control-Allow-Credentials" not in reply.headers  # not with "*": Fetch standard


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, x-api-token",
}


def preflight(service, origin) -> Reply:
    return exchange(service.port, message("OPTIONS", "/api", {**PREFLIGHT, "Origin": origin}))


def test_preflight_of_an_allowed_origin(web_greeter):
    with Connection(web_greeter.port) as connection:
        headers = {**PREFLIGHT, "Origin": ORIGINS[0]}
        reply = connection.exchange(message("OPTIONS", "/api", headers))
        # The page's own request follows on the same connection.
        answer = connection.call("greet", "you", headers={"Origin": ORIGINS[0]})

    assert reply.status in (200, 204)
    assert reply.headers.get("Access-Control-Allow-Origin") == ORIGINS[0]
    assert "POST" in reply.headers.get("Access-Control-Allow-Methods")
    allowed = reply.headers.get("Access-Control-Allow-Headers").lower()
    assert {name.strip() for name in allowed.split(",")} >= {"content-type", "x-api-token"}
    assert_greeted(web_greeter, answer)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_preflight_of_a_foreign_origin_is_refused(web_greeter, greeter, origin):
    for service in (web_greeter, greeter):
        reply = preflight(service, origin)

        assert_refused(service, reply)
        assert "Access-Control-Allow-Methods" not in reply.headers


def test_only_options_is_a_preflight(web_greeter):
    """A POST is a call, whatever headers it carries."""
    reply = greet(web_greeter, {**PREFLIGHT, "Origin": ORIGINS[0]})

    assert_greeted(web_greeter, reply)


# The attack that all of this is for


@pytest.mark.parametrize("verb", ["POST", "GET", "OPTIONS"])
def test_dns_rebinding(greeter, verb):
    """A page of evil.example, whose name now resolves to 127.0.0.1, calls "its own" server.

    To the browser it is the same origin: no preflight, and the reply may be read.
    """
    own = f"evil.example:{greeter.port}"
    for headers in ({"Host": own}, {"Host": own, "Origin": f"http://{own}"}):
        assert_refused(greeter, greet(greeter, headers, verb))
        assert exchange(greeter.port, message("GET", "/page", headers)).status == 403
    assert greeter.greeted == []


def test_dns_rebinding_with_the_page_as_allowed_origin_of_another_service(web_greeter):
    """An allowed origin does not make up for a foreign host."""
    headers = {"Host": f"evil.example:{web_greeter.port}", "Origin": ORIGINS[0]}

    assert_refused(web_greeter, greet(web_greeter, headers))


def test_a_form_of_a_foreign_page_is_not_executed(greeter):
    """No Origin (old browsers), a content type that needs no preflight."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert greet(greeter, {"Content-Type": kind}).status == 415
    assert greeter.greeted == []
