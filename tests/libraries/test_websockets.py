"""WebSocket libraries on extra routes, in each way to run a service."""

import contextlib
import ssl
import time

import pytest

from tests.support.http import Connection, call, exchange, message, result_of
from tests.support.machine import absent, free_port
from tests.support.programs import REPOSITORY, Program, gunicorn, program
from tests.support.waiting import LIMIT, wait_until
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, frame, handshake

CERTIFICATE = str(REPOSITORY / "tests" / "data" / "localhost.pem")

# Each starts a program, and needs libraries that are not in the extra "test".
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # of socketio's client
]

try:
    import flask_sock  # noqa: F401
    import flask_socketio  # noqa: F401
    import socketio
    import websocket  # noqa: F401  # socketio's client needs it for this transport
except ImportError as missing:
    MISSING = str(missing)
else:
    MISSING = ""

SERVICE = """
import os, sys

if "WITHOUT" in os.environ:
    sys.modules["geventwebsocket"] = None  # as if it were not installed

import gemstone_sync as gemstone
from flask import request
from flask_sock import Sock
from flask_socketio import SocketIO, emit


class Sockets(gemstone.MicroService):
    name = "sockets"
    host = "127.0.0.1"
    port = int(os.environ.get("PORT", "0"))
    certfile = os.environ.get("CERTIFICATE")

    @gemstone.exposed_method()
    def say_hello(self):
        return "hello"


service = Sockets()
app = service.app
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25} if "PINGS" in os.environ else {}
sock = Sock(app)
sio = SocketIO(app, async_mode=os.environ.get("MODE", "gevent"))


@sock.route("/echo")
def echo(ws):
    while True:
        ws.send(ws.receive())


@sock.route("/closes")
def closes(ws):
    ws.receive()
    ws.close(4000, "enough")


@sio.on("hello")
def hello(name):
    emit("reply", {"to": name})
    return "hello " + name


@app.route("/ws4", websocket=True)
def ws4():
    ws = request.environ.get("wsgi.websocket")
    if ws is None or request.args:
        return "no WebSocket"
    while (text := ws.receive()) is not None:
        ws.send(text)
    return ""


@app.route("/by-hand", websocket=True)
def by_hand():
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, TextMessage
    from wsproto.events import Request

    sock, headers = request.environ["gunicorn.socket"], request.headers
    ws = WSConnection(ConnectionType.SERVER)
    ws.initiate_upgrade_connection([(k.encode(), v.encode()) for k, v in headers], "/by-hand")
    while True:
        for event in ws.events():
            if isinstance(event, Request):
                sock.sendall(ws.send(AcceptConnection()))
            elif isinstance(event, TextMessage):
                sock.sendall(ws.send(event))
            elif isinstance(event, CloseConnection):
                sock.sendall(ws.send(event.response()))
                return ""
        if not (data := sock.recv(4096)):
            return ""
        ws.receive_data(data)


if __name__ == "__main__":
    service.start(workers=int(os.environ.get("WORKERS", "1")))
"""

OURS = ["start", "workers", "worker"]
every_way = pytest.mark.parametrize("way", [*OURS, "gevent"])
our_ways = pytest.mark.parametrize("way", OURS)


@pytest.fixture
def run(tmp_path):
    """``run(way, MODE="threading")``: the service, run in that way with these variables."""
    if MISSING:
        absent(MISSING)
    (tmp_path / "sockets.py").write_text(SERVICE)
    with contextlib.ExitStack() as programs:

        def run(way: str, **variables: str) -> Program:
            if way in ("start", "workers"):
                port = free_port()
                variables |= {"PORT": str(port), "WORKERS": "2" if way == "workers" else "1"}
                started = program(tmp_path / "sockets.py", tmp_path, environment=variables)
            else:
                kind = [] if way == "gevent" else ["-k", "gemstone_sync.server.GunicornWorker"]
                if certificate := variables.get("CERTIFICATE"):
                    kind += ["--certfile", certificate]
                started = gunicorn("sockets:service", tmp_path, *kind, environment=variables)
            running = programs.enter_context(started)
            running.port = running.port or port
            if "CERTIFICATE" in variables:
                running.wait_until(lambda: answers(running.port), "an answer over TLS")
            else:
                running.wait_until_ready()
            return running

        yield run


TLS = ssl.create_default_context(cafile=CERTIFICATE)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), Connection(port, tls=TLS) as client:
        return client.exchange(message("GET", "/health/ready")).status == 200
    return False


@every_way
def test_flask_sock_and_wsproto_by_hand(run, way):
    port = run(way).port
    for path in "/echo", "/by-hand":
        with WebSocket(port, path) as ws:
            ws.echo(b"hello")
            ws.send_frame(b"in ", last=False)
            ws.send_frame(b"", PING)
            ws.send_frame(b"parts", 0)
            while (got := ws.receive()) == (PONG, b""):
                pass
            assert got == (TEXT, b"in parts")
    with WebSocket(port, "/closes") as ws:
        ws.send_frame(b"")
        assert ws.receive() == (CLOSE, b"\x0f\xa0enough")
        ws.send_frame(b"\x0f\xa0", CLOSE)
        assert ws.is_ended()
    # Others are answered as ever, also with an offer that they do not take.
    assert result_of(call(port, "say_hello")) == "hello"
    assert exchange(port, handshake("/api")).status == 405


@every_way
def test_a_page_from_elsewhere_gets_none(run, way):
    port = run(way).port
    for origin in b"http://elsewhere.example", b"null", b"http://127.0.0.1.elsewhere.example":
        assert exchange(port, handshake("/echo", b"Origin: " + origin)).status == 403
    if way in ("start", "workers"):  # bound to a loopback address by itself
        assert exchange(port, handshake("/echo", host=b"rebound.example")).status == 403
    with WebSocket(port, "/echo", b"Origin: http://127.0.0.1") as ws:
        ws.echo(b"hello")


@pytest.mark.parametrize("pings", [{}, {"PINGS": "1"}], ids=["receives", "selects"])
@our_ways
@pytest.mark.parametrize("tls", [None, TLS], ids=["plain", "tls"])
def test_what_plain_gevent_cannot(run, way, pings, tls):
    """A frame that comes with the handshake, large ones, and a stop that does not take 30 s."""
    started = run(way, **pings, **({"CERTIFICATE": CERTIFICATE} if tls else {}))
    with contextlib.ExitStack() as clients:
        idle = [
            clients.enter_context(WebSocket(started.port, "/echo", after=frame(b"early"), tls=tls))
            for _ in range(50)
        ]
        for ws in idle:
            assert ws.receive() == (TEXT, b"early")
        ws.echo(b"x" * 20_000)
        ws.send_frame(bytes(5_000_000), BINARY)
        assert ws.receive() == (BINARY, bytes(5_000_000))
        begun = time.monotonic()
        assert started.terminate() == 0
        assert time.monotonic() - begun < LIMIT
        for ws in idle:
            assert ws.receive() == (CLOSE, b"\x03\xe9")  # going away


#: The driver, and whether gevent-websocket is there, which flask-socketio prefers.
DRIVERS = {
    "gevent": {"WITHOUT": "geventwebsocket"},
    "gevent-websocket": {},
    "threading": {"MODE": "threading"},
}


@pytest.mark.parametrize("driver", DRIVERS)
@every_way
def test_flask_socketio(run, way, driver):
    if way == "gevent" and driver == "gevent-websocket":
        pytest.skip("that needs gevent-websocket's own gunicorn worker")
    started = run(way, **DRIVERS[driver])
    url = f"http://127.0.0.1:{started.port}"
    # One client's requests must reach one worker, as everywhere.
    ways = [["websocket"]] if way == "workers" else [["websocket"], ["polling", "websocket"]]
    for transports in ways:
        client, got = socketio.Client(reconnection=False), []
        client.on("reply", got.append)
        client.connect(
            f"http://127.0.0.1:{started.port}", transports=transports, wait_timeout=LIMIT
        )
        wait_until(lambda c=client: c.transport() == "websocket", "the WebSocket")
        assert client.call("hello", "ada", timeout=LIMIT) == "hello ada"
        wait_until(lambda g=got: g == [{"to": "ada"}], "the event")
        client.disconnect()
    begun = time.monotonic()
    client.connect(url, transports=["websocket"])
    assert started.terminate(40 if way == "gevent" else LIMIT) == 0
    assert way == "gevent" or time.monotonic() - begun < LIMIT
    client.shutdown()


@our_ways
def test_gevent_websocket(run, way):
    """The key that its own server has in the environ; a route may leave it alone."""
    pytest.importorskip("geventwebsocket")
    port = run(way).port
    with WebSocket(port, "/ws4", after=frame(b"early")) as ws:
        assert ws.receive() == (TEXT, b"early")
        ws.echo(b"x" * 100_000)
        ws.send_frame(b"\x03\xe8", CLOSE)
        assert ws.receive()[0] == CLOSE
        assert ws.is_ended()
    with Connection(port) as client:
        for _ in range(2):
            assert client.exchange(handshake("/api")).status == 405
            assert client.exchange(handshake("/health/live")).status == 200
        broken = handshake("/health/live").replace(b"Key: d", b"Key: ")
        assert client.exchange(broken).status == 200
