"""TLS: which versions, handshakes that do not end, and everything else as without it.

Time-outs, leaving clients, draining and large bodies are tested for both elsewhere.
"""

import ssl
import warnings
from pathlib import Path

import pytest

from gemstone_sync.errors import ServiceStartError
from gemstone_sync.server import client_socket
from tests.support.waiting import LIMIT, gather, wait_until

from .case import ABC, CHUNKED, get, post
from .conftest import CERTIFICATE
from .harness import NEVER, ask, send, served, wait_until_forgotten


@pytest.fixture(scope="module")
def server(module_application):
    """Serve as the fixture of conftest.py does, over TLS."""
    with served(module_application, certfile=CERTIFICATE) as server:
        yield server


@pytest.fixture
def tls(trusting):
    """All of it is over TLS."""
    return trusting


def test_a_request_over_tls(client, application):
    reply = client.exchange(get())
    assert reply.status == 200
    assert reply.json["wsgi.url_scheme"] == "https"
    client.send(get() * 20)
    for _ in range(20):
        assert client.read_reply().status == 200
    client.send_by_byte(post(CHUNKED, body=ABC) + send("/x", b"second"))
    assert client.read_reply().json["body"] == "abc"
    assert client.read_reply().json["body"] == "second"
    client.send(post(b"Expect: 100-continue", b"Content-Length: 3"))
    assert client.read_head()[0] == 100
    assert client.exchange(b"abc").json["body"] == "abc"
    client.send(get(b"X-A : 1") + get())
    assert client.read_reply().status == 400
    assert client.is_ended()
    assert application.ran == ["/x"] * 24


def test_the_key_may_have_a_file_of_its_own(serve, connect, tmp_path):
    whole = Path(CERTIFICATE).read_text()
    start = whole.index("-----BEGIN CERTIFICATE")
    end = whole.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(whole[start:end])
    keyfile.write_text(whole[:start] + whole[end:])
    server = serve(certfile=str(certfile), keyfile=str(keyfile))
    assert connect(server).exchange(get()).status == 200


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_files_that_are_none(serve, tmp_path, text):
    """One line when the server is made, not a traceback at the first connection."""
    path = tmp_path / "cert.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ServiceStartError, match=r"cert\.pem"):
        serve(certfile=str(path))


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions_that_are_spoken(server, connect, tls, version):
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion[version]
    client = connect(server)
    assert client.socket.version() == version.replace("_", ".")
    assert client.exchange(get()).status == 200


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_versions_that_are_refused(server, connect, tls, version):
    """RFC 8996; the client here would be ready to speak them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.set_ciphers("ALL:@SECLEVEL=0")
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion[version]
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        connect(server)


def test_http_1_1_is_agreed_on(server, connect, tls):
    tls.set_alpn_protocols(["h2", "http/1.1"])
    assert connect(server).socket.selected_alpn_protocol() == "http/1.1"


# Clients that do not do as they should


def test_handshakes_that_do_not_end_hold_nobody_up(serve, connect, monkeypatch):
    monkeypatch.setattr(client_socket, "TLS_HANDSHAKE_SECONDS", NEVER)
    server = serve()
    started = [connect(server, tls=None) for _ in range(50)]
    for number, client in enumerate(started):
        client.send(b"\x16\x03\x01\x02\x00\x01"[: number % 6])  # silent, or a start of one
    wait_until(lambda: len(server.state.connections) == 50, "the server knows all of them")
    others = [lambda: connect(server).exchange(get()).status for _ in range(10)]
    assert gather(others, LIMIT) == [200] * 10


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_does_not_end_is_given_up(serve, connect, monkeypatch, start):
    monkeypatch.setattr(client_socket, "TLS_HANDSHAKE_SECONDS", 0.1)
    server = serve()
    client = connect(server, tls=None)
    client.send(start)
    assert client.read_to_end() == b""
    wait_until_forgotten(server)


def test_handshakes_that_do_not_end_make_room(serve, connect):
    """They count as idle: a newcomer gets the place of the oldest, which is really closed."""
    server = serve(max_connections=3)
    silent = [connect(server, tls=None) for _ in range(3)]
    wait_until(lambda: len(server.state.connections) == 3, "the server knows all of them")
    assert connect(server).exchange(get()).status == 200
    assert silent[0].is_ended()


def test_draining_ends_handshakes(serve, connect):
    server = serve()
    silent = connect(server, tls=None)
    wait_until(lambda: server.state.connections, "the connection is there")
    assert server.drain(0, LIMIT) is True
    assert silent.is_ended()


def test_plain_http_on_the_port_for_tls(server, connect, application):
    client = connect(server, tls=None)
    client.send(get())
    assert not client.read_to_end().startswith(b"HTTP/1.1 200")
    assert application.ran == []


GOODBYES = {
    "stream": ask("/stream", version="1.0"),
    "closed": get(b"Connection: close"),
    "refused": get(b"X-A : 1"),
    "early": send("/too-large", b"x" * 1000, length=1_000_000),
}


@pytest.mark.parametrize("sent", GOODBYES.values(), ids=GOODBYES)
def test_the_answer_ends_with_a_goodbye(client, sent):
    """RFC 8446, section 6.1: without close_notify an answer may have been cut by somebody."""
    client.socket.suppress_ragged_eofs = False
    client.send(sent)
    assert client.read_to_end().startswith(b"HTTP/1.1 ")
