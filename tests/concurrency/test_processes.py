"""multiprocessing, concurrent.futures and what they start, in methods of a service."""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.programs import Program, children_of, gunicorn, is_alive, program
from ..support.waiting import wait_until

METHODS = ["fork", *(pytest.param(m, marks=pytest.mark.slow) for m in ("spawn", "forkserver"))]

#: The work is in a module of its own: a process that is spawned imports it, and no service.
WORK = """
import os, signal, time

def double(number):
    return 2 * number

def after(path, number):
    while not os.path.exists(path):
        time.sleep(0.005)
    return number

def big(count):
    return b"x" * count

def die():
    os._exit(3)

def put(queue, count):
    for number in range(count):
        queue.put(number)

def answer(pipe):
    pipe.send(pipe.recv() * 2)

def await_(event, queue):
    event.wait()
    queue.put("set")

def add(value, count):
    for _ in range(count):
        with value.get_lock():
            value.value += 1

def last():
    time.sleep(1000)

def compute():
    while True:
        sum(range(1000))

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
"""

SERVICE = """
import functools, json, multiprocessing, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, as_completed

import gemstone_sync
import work

context = multiprocessing.get_context(os.environ["METHOD"])
waiting = []

def wait(future):
    waiting.append(future)
    return future.result()

class Service(gemstone_sync.MicroService):
    name = "processes"
    host, port = "127.0.0.1", 0
    default_timeout = None
    stop_timeout = 1
    drain_grace = 0
    workers = int(os.environ.get("WORKERS", "1"))

    @gemstone_sync.exposed_method()
    def release(self):
        open("released", "w").close()

    @gemstone_sync.exposed_method()
    def pool(self):
        with context.Pool(2) as pool:
            first = pool.map_async(functools.partial(work.after, "released"), range(6)).get()
            return first, list(pool.imap_unordered(work.double, [3])), pool.apply(work.double, (4,))

    @gemstone_sync.exposed_method()
    def executor(self):
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            jobs = [pool.submit(work.after, "released", number) for number in range(6)]
            return sorted(job.result() for job in as_completed(jobs))

    @gemstone_sync.exposed_method()
    def in_thread(self):
        return self.get_executor().submit(self.executor).result()

    @gemstone_sync.exposed_method()
    def big(self):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            there = pool.submit(len, b"y" * 5_000_000).result()
            return there + len(pool.submit(work.big, 5_000_000).result())

    @gemstone_sync.exposed_method()
    def broken(self):
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            try:
                return pool.submit(work.die).result()
            except Exception as error:
                return type(error).__name__

    @gemstone_sync.exposed_method()
    def queue(self):
        queue = context.Queue()
        process = context.Process(target=work.put, args=(queue, 1000))
        process.start()
        total = sum(queue.get(timeout=30) for _ in range(1000))
        process.join()
        return total, process.exitcode

    @gemstone_sync.exposed_method()
    def pipe(self):
        here, there = context.Pipe()
        process = context.Process(target=work.answer, args=(there,))
        process.start()
        there.close()
        here.send("x" * 300_000)
        length = len(here.recv())
        process.join()
        return length, process.exitcode

    @gemstone_sync.exposed_method()
    def event(self):
        event, queue = context.Event(), context.SimpleQueue()
        process = context.Process(target=work.await_, args=(event, queue))
        process.start()
        event.set()
        return queue.get()

    @gemstone_sync.exposed_method()
    def manager(self):
        with context.Manager() as manager:
            shared, queue = manager.dict(a=1), manager.Queue()
            queue.put(5)
            return dict(shared), queue.get()

    @gemstone_sync.exposed_method()
    def value(self):
        value = context.Value("i", 0)
        processes = [context.Process(target=work.add, args=(value, 300)) for _ in range(2)]
        for process in processes:
            process.start()
        work.add(value, 300)
        for process in processes:
            process.join()
        return value.value

    @gemstone_sync.exposed_method()
    def terminated(self):
        process = context.Process(target=work.last)
        process.start()
        process.terminate()
        process.join()
        return process.exitcode, process.is_alive()

    @gemstone_sync.exposed_method()
    def last(self, how: str, what: str):
        if how == "pool":
            with context.Pool(2) as pool:
                return pool.apply(getattr(work, what))
        if how == "process":
            process = context.Process(target=getattr(work, what))
            process.start()
            return process.join()
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            return pool.submit(getattr(work, what)).result()

service = Service()
"""

RUN = """
if __name__ == "__main__":
    service.start(block=False)
    # What shows how a process ended must show it beside programs that gevent has started.
    os.system("true")
    client = gemstone_sync.RemoteService(service.url, timeout=90, total_timeout=90)
    released = [client.call_method_async(name) for name in ("pool", "executor", "in_thread")]
    others = "big broken queue pipe event manager value terminated".split()
    answers = {name: client.call_method(name) for name in others}
    client.methods.release()
    for call in released:
        call.wait()
        answers[call.request.method_name] = call
    for name, answer in answers.items():
        print(json.dumps([name, answer.result() if callable(answer.result) else answer.result]))
    service.stop()
"""

ANSWERS = {
    "big": 10_000_000,
    "broken": "BrokenProcessPool",
    "queue": [499500, 0],
    "pipe": [600_000, 0],
    "event": "set",
    "manager": [{"a": 1}, 5],
    "value": 900,
    "terminated": [-signal.SIGTERM, False],
    "pool": [[0, 1, 2, 3, 4, 5], [6], 8],
    "executor": [0, 1, 2, 3, 4, 5],
    "in_thread": [0, 1, 2, 3, 4, 5],
}


@pytest.mark.parametrize("method", METHODS)
def test_processes_in_methods(run_python: Callable[..., Any], tmp_path: Path, method: str) -> None:
    """The first three of them end only because other calls are answered meanwhile."""
    (tmp_path / "work.py").write_text(WORK)
    ended = run_python(SERVICE + RUN, METHOD=method)
    answers = dict(json.loads(line) for line in ended.stdout.splitlines())
    assert (answers, ended.stderr, ended.returncode) == (ANSWERS, "", 0)


SLOW_SERVER = """
import gemstone_sync.patch
import gevent, multiprocessing

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["slow"])
    process = multiprocessing.get_context("forkserver").Process(target=print)
    gevent.spawn_later(0.1, open, "go", "w")
    process.start()
    process.join()
    print(process.exitcode)
"""

SLOW = """
import os, time
while not os.path.exists("go"):
    time.sleep(0.001)
"""


def test_others_run_while_the_forkserver_starts(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    ended = run_python(SLOW_SERVER)
    assert (ended.stdout, ended.stderr) == ("\n0\n", "")


# The end of a service


def _call(port: int, method: str, *params: Any) -> socket.socket:
    """Send a call, and leave its answer for later."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    body = json.dumps(request).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@contextlib.contextmanager
def _what_lasts(service: Program, how: str, what: str) -> Iterator[list[int]]:
    """Have a method start processes that do not end; their ids, and those of helpers."""
    service.wait_until_ready()
    before = set(children_of(service.process.pid))
    count = 1 if how == "process" else 2

    def begun() -> list[int]:
        now = [pid for pid in children_of(service.process.pid) if pid not in before]
        return now if len(now) >= count else []

    with _call(service.port, "last", how, what):
        yield service.wait_until(begun, "its processes")


def _assert_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), "the end of all its processes")


@pytest.mark.slow  # each waits for its stop_timeout
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("pool", "last"),
        ("executor", "last"),
        ("executor", "compute"),
        ("process", "last"),
        ("process", "stubborn"),
    ],
)
def test_stops_in_time_and_leaves_no_process(
    tmp_path: Path, method: str, how: str, what: str
) -> None:
    (tmp_path / "work.py").write_text(WORK)
    source = SERVICE + "if __name__ == '__main__':\n    print(service.url)\n"
    run = source.replace("print(service.url)", "service.start(block=True)").replace(
        "class Service(", "class Service(_Announces, "
    )
    environment = {"METHOD": method}
    with (
        program(_ANNOUNCES + run, tmp_path, environment=environment) as service,
        _what_lasts(service, how, what) as pids,
    ):
        assert service.terminate() == 0, service.stderr
        _assert_gone(pids)


#: Prints where the service listens, as `Program` wants to hear it.
_ANNOUNCES = """
class _Announces:
    def on_service_start(self):
        print(self.url, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pool", "executor"])
def test_workers_stop_in_time_and_leave_no_process(tmp_path: Path, how: str) -> None:
    (tmp_path / "work.py").write_text(WORK)
    run = SERVICE + "if __name__ == '__main__':\n    service.start()\n"
    source = _ANNOUNCES + run.replace("class Service(", "class Service(_Announces, ")
    environment = {"METHOD": "fork", "WORKERS": "2"}
    with program(source, tmp_path, environment=environment) as service:
        service.wait_for_ports(2)
        with _what_lasts(service, how, "last") as pids:
            assert service.terminate() == 0, service.stderr
            _assert_gone(pids)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pool", "executor"])
def test_gunicorn_stops_in_time_and_leaves_no_process(tmp_path: Path, how: str) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "target.py").write_text(SERVICE)
    options = ["-k", "gemstone_sync.server.GunicornWorker", "--graceful-timeout", "2"]
    environment = {"METHOD": "fork", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        gunicorn("target:service", tmp_path, *options, environment=environment) as service,
        _what_lasts(service, how, "last") as pids,
    ):
        assert service.terminate() == 0, service.stderr
        _assert_gone(pids)


@pytest.mark.slow
def test_a_second_signal_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    run = SERVICE.replace("stop_timeout = 1", "stop_timeout = 60")
    run += "if __name__ == '__main__':\n    service.start()\n"
    source = _ANNOUNCES + run.replace("class Service(", "class Service(_Announces, ")
    with (
        program(source, tmp_path, environment={"METHOD": "fork"}) as service,
        _what_lasts(service, "executor", "last") as pids,
    ):
        assert service.insist() == 128 + signal.SIGTERM
        _assert_gone(pids)


# What a forked child leaves to its parent

FORKED = """
import json, multiprocessing, os, signal, socket, sys, time
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "parent"
    host, port = "127.0.0.1", 0
    keep_alive_timeout = 0.2
    periodic_tasks = [(lambda: ran.append(os.getpid()), 0.01)]

    @gemstone_sync.exposed_method()
    def ping(self):
        return "pong"

ran = []

def child(pipe, own):
    handlers = [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM,)]
    sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
               if os.path.lexists(f"/proc/self/fd/{fd}")]
    tcp = [f"socket:[{line.split()[9]}]" for line in open("/proc/self/net/tcp").readlines()[1:]]
    before = len(ran)
    time.sleep(0.3)  # in a loop of its own
    pipe.send([handlers, [s for s in sockets if s in tcp and s != own], len(ran) - before])
    pipe.recv()

if __name__ == "__main__":
    import gevent
    gevent.signal_handler(signal.SIGTERM, lambda: None)
    service = Service()
    service.start(block=False)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        assert b"200" in connection.recv(1000)
        here, there = multiprocessing.Pipe()
        own = os.readlink(f"/proc/self/fd/{connection.fileno()}")
        process = multiprocessing.get_context("fork").Process(target=child, args=(there, own))
        process.start()
        connection.settimeout(10)
        ended = connection.recv(1000) == b""  # though there is a child that had it open
        print(json.dumps([ended, *here.recv()]))
        process.terminate()
        process.join()
        print(json.dumps([process.exitcode]))
    service.stop()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_what_a_forked_child_leaves_to_its_parent(run_python: Callable[..., Any]) -> None:
    """Sockets, periodic tasks and signal handlers."""
    ended = run_python(FORKED)
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (answers, ended.stderr) == ([[True, [True], [], 0], [-signal.SIGTERM]], "")
