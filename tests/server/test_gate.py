"""Which hosts and origins may: a web page must not reach a service on the developer's machine."""

import socket

import pytest

import gemstone_sync
from tests.support.http import JSON, Connection, call_body, exchange, message
from tests.support.machine import absent

from .echo import assert_refused


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


def greet(service, headers, verb="POST"):
    sent = message(verb, "/api", {**JSON, **headers}, call_body("greet", "you"))
    with Connection(service.port, host=service.host.replace("0.0.0.0", "127.0.0.1")) as connection:
        return connection.exchange(sent)


def assert_turned_away(service, reply):
    """403 with a JSON-RPC error body, and nothing executed."""
    assert_refused(reply, 403)
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert "Access-Control-Allow-Methods" not in reply.headers
    assert service.greeted == []


def assert_greeted(service, reply):
    assert (reply.status, reply.json["result"]) == (200, "hello you")
    assert service.greeted == ["you"]
    service.greeted.clear()


# Hosts

LISTED = {
    "allowed_hosts": ["api.example.org", "*.Services.example.org", "2001:db8::1", "[fe80::1]"]
}
LISTED_NAMES = """
    api.example.org api.example.org:8443 API.Example.ORG api.example.org. [2001:db8::1]:8000
    users.services.example.org a.b.services.example.org:80 [fe80::1] [fe80::1%25eth0]:8000
"""
# The pattern is for names below; and the list replaces the default.
NOT_LISTED_NAMES = """
    services.example.org xservices.example.org services.example.org.evil.example example.org
    www.api.example.org 127.0.0.1 localhost
"""
KNOWN_AS = {"accessible_at": "https://Shop.example/api"}
PUBLIC_NAMES = "shop.example shop.example:8443 SHOP.example shop.example."
PROXIED = {"trusted_proxies": ["127.0.0.1"]}
LOOPBACK_NAMES = """
    127.0.0.1 127.0.0.1:{port} 127.0.0.1:1 127.8.9.10 localhost localhost:{port} LocalHost:{port}
    localhost. api.localhost [::1] [::1]:{port}
"""
# 0.0.0.0 reaches loopback from a browser; 2130706433 is 127.0.0.1 as one number.
FOREIGN_NAMES = """
    evil.example evil.example:{port} 127.0.0.1.evil.example localhost.evil.example notlocalhost
    192.168.0.1 10.0.0.1:{port} 0.0.0.0 2130706433 0x7f.1 [::2]:{port} [::ffff:192.168.0.1]
"""


@pytest.mark.parametrize(
    ("attributes", "accepted", "refused"),
    [
        ({}, LOOPBACK_NAMES, FOREIGN_NAMES),
        ({"host": "localhost"}, "localhost:{port}", "evil.example"),
        ({"host": "::1"}, "[::1]:{port}", "[::2]:{port}"),
        ({"host": "0.0.0.0"}, "evil.example service.example.org:80 127.0.0.1 [::2]", ""),
        (LISTED, LISTED_NAMES, NOT_LISTED_NAMES),
        ({"host": "0.0.0.0", **LISTED}, LISTED_NAMES, NOT_LISTED_NAMES),
        ({"allowed_hosts": ["*"]}, "whatever.example", ""),
        (KNOWN_AS, f"{PUBLIC_NAMES} {LOOPBACK_NAMES}", f"a.shop.example {FOREIGN_NAMES}"),
        ({"accessible_at": "https://[2001:db8::1]/api"}, "[2001:db8::1]:1", "[2001:db8::2]"),
        ({"accessible_at": "http://127.0.0.1:1/api"}, "localhost", "shop.example"),
        ({**KNOWN_AS, **LISTED}, LISTED_NAMES, "shop.example"),
        (PROXIED, f"{PUBLIC_NAMES} 10.0.0.1 other.example 127.0.0.1", ""),
        ({**PROXIED, **LISTED}, LISTED_NAMES, NOT_LISTED_NAMES),
    ],
    ids=[
        *("loopback", "localhost", "IPv6", "everywhere", "listed", "listed everywhere", "all"),
        *("known as", "known as IPv6", "known as loopback", "known as and listed"),
        *("behind a proxy", "behind a proxy and listed"),
    ],
)
def test_hosts(running_service, attributes, accepted, refused):
    """On loopback its names and that of `accessible_at`, elsewhere and behind a proxy every name,
    or those of `allowed_hosts`: one that was accepted does not open the door for the next."""
    if attributes.get("host") == "::1" and not has_ipv6():
        absent("this machine has no IPv6")
    service = running_service(Greeter, **attributes)
    if service.host == "::1":
        assert service.url == f"http://[::1]:{service.port}/api"
    refusals = [host.format(port=service.port) for host in refused.split()]
    for host in accepted.split():
        assert_greeted(service, greet(service, {"Host": host.format(port=service.port)}))
        for other in refusals[:1]:
            assert_turned_away(service, greet(service, {"Host": other}))
    for host in refusals:
        assert_turned_away(service, greet(service, {"Host": host}))


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["", "evil.example:127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1/", "a b"]
)
def test_a_malformed_host_is_refused(greeter, host):
    """400 as RFC 9112, section 3.2 has it, or 403: not executed, whichever layer sees it first."""
    reply = greet(greeter, {"Host": host})

    assert reply.status in (400, 403)
    assert greeter.greeted == []


@pytest.mark.parametrize("verb", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("path", ["/page", "/api", "/nothing-here"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_foreigners_are_refused_on_every_path(greeter, verb, path, headers):
    reply = exchange(greeter.port, message(verb, path, headers))

    assert reply.status == 403
    assert greeter.greeted == []


def test_many_host_names_do_not_change_who_may(greeter):
    """What the service remembers of hosts is bounded, and being beyond it decides nothing."""
    with Connection(greeter.port) as connection:
        for number in range(600):
            assert connection.call("greet", "", headers={"Host": f"n{number}.localhost"})
    greeter.greeted.clear()

    assert_greeted(greeter, greet(greeter, {"Host": "one-more.localhost"}))
    assert_turned_away(greeter, greet(greeter, {"Host": "evil.example"}))


# Origins

ORIGINS = ["https://app.example.org", "http://localhost:3000"]

# Another port is another origin, and so are another name for the same machine and another scheme;
# "null" is a sandboxed frame, or a file; the last is no origin at all.
FOREIGN_ORIGINS = """
    https://evil.example http://127.0.0.1:1 http://localhost:{port} null
    http://127.0.0.1:{port}.evil.example https://app.example.org.evil.example
    https://evilapp.example.org http://app.example.org https://app.example.org:444
    https://sub.app.example.org 127.0.0.1:{port}
"""


@pytest.fixture
def web_greeter(running_service):
    return running_service(Greeter, allowed_origins=ORIGINS)


@pytest.mark.parametrize("allowed", [[], ORIGINS])
def test_origins(running_service, allowed):
    """The service's own pages may call it, and those of `allowed_origins`; no page else."""
    service = running_service(Greeter, allowed_origins=allowed)
    host = f"127.0.0.1:{service.port}"

    reply = greet(service, {"Host": host, "Origin": f"http://{host}"})
    assert_greeted(service, reply)
    assert "Access-Control-Allow-Origin" not in reply.headers
    for origin in ["", *FOREIGN_ORIGINS.format(port=service.port).split()]:
        assert_turned_away(service, greet(service, {"Host": host, "Origin": origin}))
    for origin in allowed:
        reply = greet(service, {"Host": host, "Origin": origin})
        assert_greeted(service, reply)
        assert reply.headers.get_all("Access-Control-Allow-Origin") == [origin]
        assert "origin" in reply.headers.get("Vary").lower()
    # An allowed origin does not make up for a foreign host.
    for origin in allowed:
        reply = greet(service, {"Host": f"evil.example:{service.port}", "Origin": origin})
        assert_turned_away(service, reply)


@pytest.mark.parametrize(
    ("verb", "path", "headers", "body", "status"),
    [
        ("POST", "/api", {"Content-Type": "text/plain"}, call_body("greet", "you"), 415),
        ("POST", "/api", JSON, b"no json", 200),
        ("POST", "/api", JSON, call_body("nothing"), 200),
        ("GET", "/page", {}, None, 200),
    ],
)
def test_an_allowed_page_may_read_errors_and_extra_routes_too(
    web_greeter, verb, path, headers, body, status
):
    sent = message(verb, path, {**headers, "Origin": ORIGINS[0]}, body)

    reply = exchange(web_greeter.port, sent)

    assert reply.status == status
    assert reply.headers.get("Access-Control-Allow-Origin") == ORIGINS[0]
    assert reply.body == b"a page" if path == "/page" else reply.json["error"]


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


def test_preflight_of_an_allowed_origin(web_greeter):
    headers = {**PREFLIGHT, "Origin": ORIGINS[0]}
    with Connection(web_greeter.port) as connection:
        reply = connection.exchange(message("OPTIONS", "/api", headers))
        # The page's own request follows on the same connection: a call, whatever headers it has.
        answer = connection.call("greet", "you", headers=headers)

    assert reply.status in (200, 204)
    assert reply.headers.get("Access-Control-Allow-Origin") == ORIGINS[0]
    assert "POST" in reply.headers.get("Access-Control-Allow-Methods")
    allowed = reply.headers.get("Access-Control-Allow-Headers").lower()
    assert {name.strip() for name in allowed.split(",")} >= {"content-type", "x-api-token"}
    assert_greeted(web_greeter, answer)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_preflight_of_a_foreign_origin_is_refused(web_greeter, greeter, origin):
    sent = message("OPTIONS", "/api", {**PREFLIGHT, "Origin": origin})
    for service in (web_greeter, greeter):
        assert_turned_away(service, exchange(service.port, sent))


# The attacks that all of this is for


@pytest.mark.parametrize("verb", ["POST", "GET", "OPTIONS"])
def test_dns_rebinding(greeter, verb):
    """A page of evil.example, whose name now resolves to 127.0.0.1, calls "its own" server.

    To the browser it is the same origin: no preflight, and the reply may be read.
    """
    own = f"evil.example:{greeter.port}"
    headers = {"Host": own, "Origin": f"http://{own}"}
    assert_turned_away(greeter, greet(greeter, headers, verb))
    assert_turned_away(greeter, exchange(greeter.port, message("GET", "/page", headers)))


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_form_of_a_foreign_page_is_not_executed(greeter, kind):
    """No Origin (old browsers), a content type that needs no preflight."""
    assert greet(greeter, {"Content-Type": kind}).status == 415
    assert greeter.greeted == []
