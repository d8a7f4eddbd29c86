"""RemoteService in programs of every kind: threaded and never patched, patched, patched late.

Each program is a fresh interpreter, and calls a service of this process.
"""

from collections.abc import Callable
from typing import Any

import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync import MicroService
from tests.support.faulty_server import CERTIFICATE, FaultyServer, answer, drip, hang
from tests.support.waiting import LIMIT, wait_until


class Meeting(MicroService):
    name = "meeting"

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, tuple[list[int], Event]] = {}
        self.go_on = Event()

    @gemstone_sync.exposed_method()
    def double(self, number: int) -> int:
        return 2 * number

    @gemstone_sync.exposed_method()
    def meet(self, group: str, size: int) -> bool:
        """True once `size` calls of the group are here at the same time."""
        here, all_here = self.groups.setdefault(group, ([], Event()))
        here.append(1)
        if len(here) == size:
            all_here.set()
        return all_here.wait(LIMIT)


SERVICE = Meeting

#: What each program does with the client; `url` is the service's.
USE = """
import concurrent.futures, threading

import gemstone_sync
from gemstone_sync import (
    MethodCall, MethodNotFound, Notification, RemoteService, as_completed, first_completed,
    make_callbacks,
)

def use(url):
    client = RemoteService(url, timeout=20, total_timeout=40)
    assert client.name == "meeting"
    assert client.methods.double(2) == 4
    assert client.notifications.double(2) is None
    assert client.call_batch(MethodCall("double", [4]), Notification("double", [1])).responses[
        0].result == 8
    try:
        client.methods.nonsense()
    except MethodNotFound:
        pass
    else:
        raise AssertionError

    calls = [client.methods.meet.async_("async", 10) for _ in range(10)]
    assert first_completed(*calls).result() is True
    assert [call.result() for call in as_completed(*calls)] == [True] * 10

    results = []
    doubled = [client.methods.double.async_(number) for number in range(5)]
    make_callbacks(doubled, results.append, results.append)
    assert sorted(results) == [0, 2, 4, 6, 8], results
    all_called = threading.Event()
    def collect(result):
        results.append(result)
        if len(results) == 10:
            all_called.set()
    make_callbacks(doubled, collect, collect, run_in_threads=True)
    assert all_called.wait(20)

    with concurrent.futures.ThreadPoolExecutor(20) as executor:
        assert all(executor.map(lambda _: client.methods.meet("threads", 20), range(20)))
    client.close()
"""

NOTHING_IS_PATCHED = """
import gevent.monkey, socket, ssl, time, threading, select, subprocess, queue
from gemstone_sync.concurrency import is_patched
assert not is_patched()
assert not gevent.monkey.saved, gevent.monkey.saved
for thing in (socket.socket, ssl.SSLSocket, ssl.SSLContext, time.sleep, threading.Lock,
              threading.Thread, select.select, subprocess.Popen, queue.SimpleQueue):
    assert not (getattr(thing, "__module__", "") or "").startswith("gevent"), thing
assert threading.get_native_id() == threading.main_thread().native_id
"""


@pytest.fixture
def run(run_python: Callable[..., Any], service: Meeting) -> Callable[..., str]:
    """Run a program that gets the service's URL, or others; what it prints when it ended well."""

    def run(source: str, *urls: str, **environment: str) -> str:
        strict = f"import sys, warnings\nwarnings.simplefilter('error')\n{source}"
        done = run_python(strict, *(urls or [service.url]), **environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return str(done.stdout)

    return run


PLAIN = f"""
# As a Django program would: its own HTTP calls are its own.
import requests, urllib3, ssl, concurrent.futures, gc
before = (ssl.SSLContext, requests.adapters.HTTPAdapter.send, urllib3.connection.HTTPConnection,
          urllib3.PoolManager.urlopen)
{USE}
use(sys.argv[1])
call = {{"jsonrpc": "2.0", "method": "double", "params": [4], "id": 1}}
with requests.Session() as session:
    session.trust_env = False
    with session.post(sys.argv[1], json=call, timeout=20) as reply:
        assert reply.json()["result"] == 8
assert before == (ssl.SSLContext, requests.adapters.HTTPAdapter.send,
                  urllib3.connection.HTTPConnection, urllib3.PoolManager.urlopen)
{NOTHING_IS_PATCHED}
print(RemoteService(sys.argv[1]).methods.double(4))  # a client that nobody closes
gc.collect()
"""


def test_a_plain_threaded_program(run: Callable[..., str]) -> None:
    assert run(PLAIN) == "8\n"


OVER_TLS = f"""
import threading
from concurrent.futures import ThreadPoolExecutor
from gemstone_sync import ConnectionFailed, ConnectTimeout, RemoteService

_, good, silent, dripping, certificate = sys.argv
everybody = threading.Barrier(20)

def call(name):
    everybody.wait()
    threads.add(threading.get_native_id())
    return all(client.methods.echo(name, n) == [name, n] for n in range(20))

threads = set()
options = {{"verify": certificate, "timeout": 20, "total_timeout": 25, "pool_size": 7}}
with ThreadPoolExecutor(20) as executor, RemoteService(good, **options) as client:
    assert all(executor.map(call, range(20)))
    calls = [client.methods.echo.async_(number) for number in range(5)]
    assert [each.result(wait=True) for each in calls] == [[n] for n in range(5)]
for url, seconds in ((good, 20), (silent, 0.1), (dripping, 0.1)):
    with RemoteService(url, timeout=seconds, total_timeout=20) as client:
        try:
            client.methods.echo()
        except ConnectionFailed as error:
            print(type(error).__name__, "does not verify" in str(error))
{NOTHING_IS_PATCHED}
print(len(threads))
"""


def test_real_threads_share_a_client_over_tls(run: Callable[..., str]) -> None:
    def echo(exchange: Any) -> None:
        answer(exchange.request.json["params"])(exchange)

    dripping = drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 999, 0.01)
    with (
        FaultyServer(echo, tls=True) as good,
        FaultyServer(tls=True, greeting=hang) as silent,
        FaultyServer(tls=True, greeting=dripping) as slow,
    ):
        said = run(OVER_TLS, good.url, silent.url, slow.url, CERTIFICATE).splitlines()
        assert said == [
            "ConnectionFailed True",
            "ConnectTimeout False",
            "ConnectTimeout False",
            "20",
        ]
        assert good.received["echo"] == 405
        wait_until(lambda: good.open_connections == 0, "all connections' end")


def test_the_same_program_patched(run: Callable[..., str]) -> None:
    patching = "from gevent import monkey; monkey.patch_all()"
    check = "from gemstone_sync.concurrency import is_patched; assert is_patched()"
    assert run(f"{patching}\n{USE}\n{check}\nuse(sys.argv[1])\nprint('fine')") == "fine\n"


def test_a_client_that_was_used_before_the_process_was_patched(
    run_python: Callable[..., Any], service: Meeting
) -> None:
    """Its threads are idle then: what is said of their end on stderr is gevent's affair."""
    source = f"""
import sys
{USE}
client = RemoteService(sys.argv[1], timeout=20, total_timeout=40)
assert client.methods.double(1) == 2
assert client.methods.double.async_(2).result(wait=True) == 4
from gemstone_sync import MicroService
from gemstone_sync.concurrency import is_patched
assert is_patched()

assert client.methods.double.async_(3).result(wait=True) == 6
client.close()
assert client.methods.double(1) == 2
import gevent
calls = [client.methods.meet.async_("late", 5) for _ in range(5)]
assert [call.result(wait=True) for call in calls] == [True] * 5
meeting = [gevent.spawn(client.methods.meet, "greenlets", 5) for _ in range(5)]
assert [greenlet.get(timeout=20) for greenlet in meeting] == [True] * 5
client.close()
use(sys.argv[1])
print("fine")
"""
    done = run_python(source, service.url, GEMSTONE_MONKEY_PATCH="late")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_a_program_that_ends_while_calls_are_running(run: Callable[..., str]) -> None:
    source = """
from gemstone_sync import RemoteService
warnings.simplefilter("ignore", ResourceWarning)  # the last connections end with the process
with RemoteService(sys.argv[1], timeout=20, total_timeout=40, pool_size=2) as client:
    calls = [client.methods.double.async_(number) for number in range(20)]
print("fine")
import atexit
atexit.register(lambda: print(sum(call.result() for call in calls)))
"""
    assert run(source) == f"fine\n{sum(range(0, 40, 2))}\n"
