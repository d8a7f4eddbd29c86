"""TLS: which versions, handshakes that do not end, and everything else as without it."""

import dataclasses
import ssl
import warnings

import gevent
import pytest

from gemstone_sync.errors import ServiceStartError
from gemstone_sync.server import channel as channel_module
from tests.support.programs import REPOSITORY
from tests.support.waiting import gather, wait_until

from .case import CHUNKED, get, post
from .harness import SOON, Client, Clock, ask, send, served

#: A key and a certificate for localhost that is its own authority.
CERTIFICATE = str(REPOSITORY / "tests" / "data" / "localhost.pem")
SHORT = 0.4


@pytest.fixture
def trusting():
    """A client's context that accepts this certificate and no other."""
    return ssl.create_default_context(cafile=CERTIFICATE)


@pytest.fixture(scope="module")
def server(module_application):
    """As the one of conftest.py, over TLS."""
    with served(module_application, certfile=CERTIFICATE) as server:
        yield server


@pytest.fixture
def open_client(server, connect, trusting, application):
    """``open_client()``: one more client over TLS."""
    return lambda: connect(server, tls=trusting)


@pytest.fixture
def serve_tls(serve):
    return lambda **settings: serve(certfile=CERTIFICATE, **settings)


def test_a_request_over_tls(open_client):
    reply = open_client().exchange(get())
    assert reply.status == 200
    assert reply.json["environ"]["wsgi.url_scheme"] == "https"


def test_the_key_may_have_a_file_of_its_own(serve, connect, trusting, tmp_path):
    whole = (REPOSITORY / "tests" / "data" / "localhost.pem").read_text()
    start = whole.index("-----BEGIN CERTIFICATE")
    end = whole.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(whole[start:end])
    keyfile.write_text(whole[:start] + whole[end:])
    server = serve(certfile=str(certfile), keyfile=str(keyfile))
    assert connect(server, tls=trusting).exchange(get()).status == 200


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_files_that_are_none(application, tmp_path, text):
    """One line when the server is made, not a traceback at the first connection."""
    path = tmp_path / "cert.pem"
    if text is not None:
        path.write_text(text)
    with (
        pytest.raises(ServiceStartError, match=r"cert\.pem"),
        served(application, certfile=str(path)),
    ):
        pass


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions_that_are_spoken(open_client, trusting, version):
    trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion[version]
    client = open_client()
    assert client.socket.version() == version.replace("_", ".")
    assert client.exchange(get()).status == 200


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_versions_that_are_refused(open_client, trusting, version):
    """RFC 8996; the client here would be ready to speak them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trusting.set_ciphers("ALL:@SECLEVEL=0")
        trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion[version]
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        open_client()


def test_http_1_1_is_agreed_on(open_client, trusting):
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    assert open_client().socket.selected_alpn_protocol() == "http/1.1"


def test_keep_alive_and_pipelining(open_client, application):
    client = open_client()
    for _ in range(20):
        assert client.exchange(get()).status == 200
    client.send(get() * 20)
    for _ in range(20):
        assert client.read_reply().status == 200
    assert application.ran == ["/x"] * 40


def test_byte_by_byte(open_client):
    client = open_client()
    client.send_by_byte(post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n") + send("/x", b"second"))
    assert client.read_reply().json["body"] == "abc"
    assert client.read_reply().json["body"] == "second"


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies(open_client, chunked):
    """Many records each way, and both sides have to wait."""
    body = b"y" * 5_000_000
    sent = post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    client = open_client()
    sending = gevent.spawn(client.send, sent if chunked else send("/x", body))
    assert client.read_reply().json["body"] == body.decode()
    sending.get(timeout=SOON)
    assert client.exchange(ask("/large?5000000")).body == b"x" * 5_000_000
    assert client.exchange(ask("/large-in-pieces?80")).body == b"x" * 80 * 65536


def test_100_continue(open_client):
    client = open_client()
    client.send(post(b"Expect: 100-continue", b"Content-Length: 3"))
    assert client.read_head()[0] == 100
    assert client.exchange(b"abc").json["body"] == "abc"


def test_malformed_requests_are_refused(open_client, application):
    client = open_client()
    client.send(get(b"X-A : 1") + get())
    assert client.read_reply().status == 400
    assert client.is_ended()
    assert application.ran == []


# Clients that do not do as they should


def test_handshakes_that_do_not_end_hold_nobody_up(serve_tls, connect, trusting):
    server = serve_tls()
    started = [connect(server) for _ in range(50)]
    for number, client in enumerate(started):
        client.send(b"\x16\x03\x01\x02\x00\x01"[: number % 6])  # silent, or a start of one
    wait_until(lambda: len(server.connections) == 50, "the server knows all of them", SOON)
    others = [lambda: connect(server, tls=trusting).exchange(get()).status for _ in range(10)]
    with Clock() as clock:
        assert gather(others, SOON) == [200] * 10
    assert clock.seconds < 2.0


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_does_not_end_is_given_up(serve_tls, connect, start):
    server = serve_tls()
    server.timeouts = dataclasses.replace(server.timeouts, tls_handshake=SHORT)
    client = connect(server)
    client.send(start)
    with Clock() as clock:
        assert client.read_to_end() == b""
    assert clock.seconds < SOON
    wait_until(lambda: not server.connections, "the connection is forgotten", SOON)


def test_handshakes_that_do_not_end_make_room(serve_tls, connect, trusting):
    """They count as idle: a newcomer gets the place of the oldest, which is really closed."""
    server = serve_tls(max_connections=3)
    silent = [connect(server) for _ in range(3)]
    wait_until(lambda: len(server.connections) == 3, "the server knows all of them", SOON)
    assert connect(server, tls=trusting).exchange(get()).status == 200
    assert silent[0].is_ended()


def test_plain_http_on_the_port_for_tls(server, connect, application):
    client = connect(server)
    client.send(get())
    assert not client.read_to_end().startswith(b"HTTP/1.1 200")
    assert application.ran == []


def test_an_idle_connection_ends(serve_tls, connect, trusting):
    client = connect(serve_tls(keep_alive_timeout=SHORT), tls=trusting)
    assert client.exchange(get()).status == 200
    with Clock() as clock:
        assert client.read_to_end() == b""
    assert clock.seconds < SOON


def test_half_a_head_does_not_stay(serve_tls, connect, trusting, application):
    client = connect(serve_tls(header_timeout=SHORT), tls=trusting)
    client.send(get()[:20])
    with Clock() as clock:
        received = client.read_to_end()
    # A connection that waits in a TLS read is shut down; without TLS there would be a 408.
    assert received == b"" or received.startswith(b"HTTP/1.1 408 ")
    assert clock.seconds < SOON
    assert application.ran == []


def test_half_a_body_does_not_stay(serve_tls, connect, trusting, application):
    client = connect(serve_tls(body_timeout=SHORT), tls=trusting)
    client.send(post(b"Content-Length: 100", body=b"half"))
    with Clock() as clock:
        received = client.read_to_end()
    assert received == b"" or received.startswith(b"HTTP/1.1 408 ")
    assert clock.seconds < SOON


def test_a_call_may_take_longer_than_every_time_out(serve_tls, connect, trusting, application):
    server = serve_tls(header_timeout=SHORT, keep_alive_timeout=SHORT, body_timeout=SHORT)
    client = connect(server, tls=trusting)
    client.send(ask("/waits", b"Content-Length: 4", method="POST"))
    gevent.idle()
    client.send(b"body")
    assert application.entered.wait(SOON)
    gevent.sleep(2 * SHORT)  # the time that must not count
    application.release.set()
    assert client.read_reply().body == b"waitedbody"
    assert client.exchange(get()).status == 200


def test_a_client_that_takes_nothing_is_given_up(
    serve_tls, connect, trusting, application, monkeypatch
):
    monkeypatch.setattr(channel_module, "SEND_SECONDS", SHORT)
    server = serve_tls()
    connect(server, tls=trusting).send(ask("/large-in-pieces?1000"))
    wait_until(lambda: application.closed, "the application's result is closed", SOON)
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_mid_call_is_counted(
    serve_tls, connect, trusting, application, how
):
    server = serve_tls()
    client = connect(server, tls=trusting)
    client.send(ask("/waits"))
    assert application.entered.wait(SOON)
    client.abort() if how == "abort" else client.socket.close()
    wait_until(lambda: server.clients_gone == 1, "the client is counted", SOON)
    application.release.set()
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


def test_an_early_answer_reaches_a_client_that_is_still_sending(open_client):
    client = open_client()
    client.send(ask("/too-large", b"Content-Length: 1000000000", method="POST"))
    client.send(b"x" * 200_000)
    reply = client.read_reply()
    assert reply.status == 413
    assert reply.body == b"too large"
    assert client.is_ended()


GOODBYES = {
    "stream": ask("/stream", version="1.0"),
    "closed": get(b"Connection: close"),
    "refused": get(b"X-A : 1"),
    "early": ask("/too-large", b"Content-Length: 1000000", method="POST", body=b"x" * 1000),
}


@pytest.mark.parametrize("sent", GOODBYES.values(), ids=GOODBYES)
def test_the_answer_ends_with_a_goodbye(open_client, sent):
    """RFC 8446, section 6.1: without close_notify an answer may have been cut by somebody."""
    client = open_client()
    client.socket.suppress_ragged_eofs = False
    client.send(sent)
    assert client.read_to_end().startswith(b"HTTP/1.1 ")


def test_an_idle_connection_ends_with_a_goodbye(serve_tls, connect, trusting):
    client = connect(serve_tls(keep_alive_timeout=SHORT), tls=trusting)
    client.socket.suppress_ragged_eofs = False
    assert client.exchange(get()).status == 200
    assert client.read_to_end() == b""


def test_an_evicted_connection_ends_quietly(serve_tls, connect, trusting):
    server = serve_tls(max_connections=1)
    idle = connect(server, tls=trusting)
    assert idle.exchange(get()).status == 200
    assert connect(server, tls=trusting).exchange(get()).status == 200
    assert idle.is_ended()


# Draining


def test_draining_finishes_what_runs(application, trusting):
    with served(application, certfile=CERTIFICATE) as server, Client(server, tls=trusting) as idle:
        assert idle.exchange(get()).status == 200
        with Client(server, tls=trusting) as busy:
            busy.send(ask("/waits"))
            assert application.entered.wait(SOON)
            draining = gevent.spawn(server.drain, 0, SOON)
            assert idle.is_ended()
            assert not draining.ready()
            application.release.set()
            reply = busy.read_reply()
            assert reply.body == b"waited"
            assert reply.closes
            assert draining.get(timeout=SOON) is True


def test_draining_gives_up_calls_that_take_too_long(application, trusting):
    with served(application, certfile=CERTIFICATE) as server, Client(server, tls=trusting) as busy:
        busy.send(ask("/waits"))
        assert application.entered.wait(SOON)
        with Clock() as clock:
            assert server.drain(0, SHORT) is False
            assert busy.read_to_end() == b""
        assert clock.seconds < SOON
        application.release.set()


def test_draining_ends_handshakes(application):
    with served(application, certfile=CERTIFICATE) as server, Client(server) as silent:
        wait_until(lambda: server.connections, "the connection is there", SOON)
        assert server.drain(0, SOON) is True
        assert silent.is_ended()
