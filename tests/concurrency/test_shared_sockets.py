"""Sockets that are used in one thread after another, as those in the pools of clients are."""

import subprocess
from collections.abc import Callable

import pytest

from ..server.http.conftest import CERTIFICATE

Run = Callable[..., "subprocess.CompletedProcess[str]"]

BEGINNING = """
import gemstone_sync.patch
import http.server, socket, threading, time
import gevent
from gevent.threadpool import ThreadPool

def answer():
    while question := far.recv(1):
        time.sleep(0.01)  # so that whoever asks waits
        far.sendall(question.upper())

near, far = socket.socketpair()
near.settimeout(10)
answering = gevent.spawn(answer)

def ask():
    near.sendall(b"a")
    return near.recv(1)

def natively(function):
    pool = ThreadPool(1)
    try:
        with gevent.Timeout(20):
            return pool.spawn(function).get()
    finally:
        pool.kill()
"""

PROGRAMS = {
    "here and there": """
for _ in range(3):
    assert [ask(), natively(ask), natively(ask), ask()] == [b"A"] * 4
""",
    "made in a thread that has ended": """
near, far = natively(socket.socketpair)
near.settimeout(10)
answering = gevent.spawn(answer)
assert ask() == natively(ask) == b"A"
""",
    "a time-out": """
near.settimeout(0.05)
def times_out():
    try:
        near.recv(1)
    except socket.timeout as error:
        return str(error)
assert [times_out(), natively(times_out), times_out()] == ["timed out"] * 3
""",
    "TLS": """
import os, ssl
server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
server.load_cert_chain(os.environ["CERTIFICATE"])
client = ssl.create_default_context(cafile=os.environ["CERTIFICATE"])
answering.kill()
def answer_safely():
    global far
    far = server.wrap_socket(far, server_side=True)
    answer()
answering = gevent.spawn(answer_safely)
near = client.wrap_socket(near, server_hostname="localhost")
assert [ask(), natively(ask), ask()] == [b"A"] * 3
natively(near.close)
answering.get(timeout=10)
""",
    "a file over it": """
file = near.makefile("rwb")
def ask_file():
    file.write(b"b")
    file.flush()
    return file.read(1)
assert [ask_file(), natively(ask_file), ask_file()] == [b"B"] * 3
""",
    "closed in another thread": """
assert natively(ask) == b"A"
near.close()
answering.get(timeout=10)
near, far = socket.socketpair()
answering = gevent.spawn(answer)
assert ask() == b"A"
natively(near.close)
answering.get(timeout=10)
""",
    "read in one, written in another": """
heard = gevent.spawn(near.recv, 1)
gevent.sleep(0.01)  # it waits
natively(lambda: near.sendall(b"c"))
assert heard.get(timeout=10) == b"C"
pool = ThreadPool(1)
heard = pool.spawn(near.recv, 1)
gevent.sleep(0.05)
near.sendall(b"d")
assert heard.get(timeout=10) == b"D"
begun = []
filled = pool.spawn(lambda: begun.append(near.gettimeout()) or near.recv(1))
while not begun:  # else the time-out would be its own
    gevent.sleep(0.001)
gevent.sleep(0.05)
try:
    near.settimeout(0.05)
    near.recv(1)
except socket.timeout:
    pass
far.sendall(b"e")
assert filled.get(timeout=10) == b"e"
""",
    "a client's pool": """
import requests
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
session = requests.Session()
def get():
    return session.get(f"http://127.0.0.1:{server.server_port}/", timeout=10).text
assert [get(), natively(get), get(), natively(get)] == ["ok"] * 4
session.close()
""",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_socket_is_used_in_one_thread_after_another(run_python: Run, kind: str) -> None:
    ran = run_python(BEGINNING + PROGRAMS[kind] + "\nprint('fine')", CERTIFICATE=CERTIFICATE)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("fine\n", "", 0)
