"""X-Forwarded fields: only a trusted proxy may say who the client is."""

import pytest

from gemstone_sync.server.forwarded import TrustedProxies

from .harness import ask, connected

FORWARDED = (
    b"X-Forwarded-For: 9.9.9.9, 203.0.113.7",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: public.example",
    b"X-Forwarded-Port: 443",
    b"X-Forwarded-Prefix: /prefix",
)


def told_of(server, *fields):
    with connected(server) as client:
        return client.exchange(ask("/x", *fields)).json


@pytest.mark.parametrize("trusted", [(), ("10.0.0.1",), ("10.0.0.0/8", "::1")])
def test_forwarded_fields_of_anybody_are_dropped(serve, trusted):
    told = told_of(serve(trusted_proxies=trusted), *FORWARDED)
    assert told["REMOTE_ADDR"] == "127.0.0.1"
    assert told["HTTP_HOST"] == "a"
    assert told["wsgi.url_scheme"] == "http"
    assert [name for name in told if "FORWARDED" in name] == []


@pytest.mark.parametrize("trusted", [("127.0.0.1",), ("127.0.0.0/8",), ("10.0.0.1", "127.0.0.1")])
def test_forwarded_fields_of_a_trusted_proxy_count(serve, trusted):
    told = told_of(serve(trusted_proxies=trusted), *FORWARDED)
    # The last address is the one that the proxy saw; those before it the client may have made up.
    assert told["REMOTE_ADDR"] == "203.0.113.7"
    assert told["HTTP_HOST"] == "public.example"
    assert told["wsgi.url_scheme"] == "https"
    assert told["HTTP_X_FORWARDED_FOR"] == "9.9.9.9, 203.0.113.7"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"203.0.113.7, 10.1.1.1, 127.0.0.1", "203.0.113.7"),
        (b"10.1.1.1", "10.1.1.1"),
        (b"9.9.9.9, nonsense", "127.0.0.1"),
        (b"9.9.9.9, nonsense, 10.1.1.1", "10.1.1.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"", "127.0.0.1"),
        (b"9.9.9.9\r\nX-Forwarded-For: 203.0.113.7", "203.0.113.7"),  # two fields are one list
    ],
)
def test_the_address_is_the_last_that_is_no_trusted_proxy(serve, value, address):
    server = serve(trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    assert told_of(server, b"X-Forwarded-For: " + value)["REMOTE_ADDR"] == address


def test_a_proxy_of_ipv4_on_a_socket_of_ipv6():
    """On ``::`` its address is a mapped one (RFC 4291, section 2.5.5.2)."""
    environ = {"REMOTE_ADDR": "::ffff:10.0.0.1"}
    TrustedProxies(["10.0.0.0/8"]).apply(environ, {"HTTP_X_FORWARDED_FOR": "203.0.113.7"})
    assert environ["REMOTE_ADDR"] == "203.0.113.7"


@pytest.mark.parametrize("host", [b"a b", b"a/x", b'"', b"user@a"])
def test_a_forwarded_host_that_is_none_is_not_believed(serve, connect, host):
    server = serve(trusted_proxies=("127.0.0.1",))
    reply = connect(server).exchange(ask("/x", b"X-Forwarded-Host: " + host))
    assert reply.status == 400 or reply.json["HTTP_HOST"] == "a"


def test_one_request_of_a_connection_does_not_trust_for_the_next(serve, connect):
    """Heads are remembered by their bytes: an address must not stick to one."""
    server = serve(trusted_proxies=("127.0.0.1",))
    client = connect(server)
    for number in (1, 2, 1):
        told = client.exchange(ask("/x", b"X-Forwarded-For: 203.0.113.%d" % number)).json
        assert told["REMOTE_ADDR"] == f"203.0.113.{number}"
    assert client.exchange(ask("/x")).json["REMOTE_ADDR"] == "127.0.0.1"
