"""The servers that are measured: what each is, how it is started, how its CPU is read.

A new peer is one file in peers/ and one entry in CATALOGUE. All answer POST /api with one worker
process and no access log.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loadgen
from loadgen import Fault
from process import Child, Peer, Runner
from venvs import REPOSITORY, Subject

sys.path.insert(0, str(REPOSITORY))  # for programs that are run by hand
from tests.support.machine import free_port

PEERS = Path(__file__).resolve().parent / "peers"

GUNICORN = "-m gunicorn -b 127.0.0.1:{port} -w 1 --no-control-socket --log-level warning -k"
OURS_WORKER = f"{GUNICORN} gemstone_sync.server.GunicornWorker ours_service:service"
OURS_GEVENT = f"{GUNICORN} gevent ours_service:service"
FLASK = f"{GUNICORN} gevent flask_jsonrpc_app:app"
UVICORN = (
    "-m uvicorn --host 127.0.0.1 --port {port} --workers 1 --loop uvloop --http httptools"
    " --no-access-log --log-level warning"
)
ASGI = f"{UVICORN} --lifespan off msgspec_rpc:asgi"
FASTAPI = f"{UVICORN} fastapi_jsonrpc_app:app"
RSGI = (
    "-m granian --host 127.0.0.1 --port {port} --interface rsgi --http 1 --no-ws --workers 1"
    " --runtime-threads 1 --loop uvloop --log-level warning msgspec_rpc:rsgi"
)


@dataclass(frozen=True)
class Server(Subject):
    """One server.

    :param arguments: of its Python, `{port}` filled in; the working directory is peers/
    """

    arguments: str


OURS = Server("ours", "gemstone_sync, own server", "ours_service.py")
CATALOGUE = (
    Server("echo", "raw gevent socket echo (the limit)", "echo_server.py"),
    OURS,
    Server("ours-gunicornworker", "gemstone_sync, gunicorn -k GunicornWorker", OURS_WORKER),
    Server("ours-gunicorn", "gemstone_sync, gunicorn -k gevent", OURS_GEVENT),
    Server("uvicorn-asgi", "hand-written ASGI + msgspec, uvicorn", ASGI, package="uvicorn"),
    Server("granian-rsgi", "hand-written RSGI + msgspec, granian", RSGI, package="granian"),
    Server("pjrpc", "pjrpc on aiohttp", "pjrpc_aiohttp.py", package="pjrpc"),
    *(
        Server(name, title, arguments, package=name)
        for name, title, arguments in (
            ("old-gemstone", "gemstone 0.10.1 on tornado", "old_gemstone.py"),
            ("fastapi-jsonrpc", "fastapi-jsonrpc on uvicorn", FASTAPI),
            ("flask-jsonrpc", "flask-jsonrpc, gunicorn -k gevent", FLASK),
        )
    ),
)
BY_NAME = {server.name: server for server in CATALOGUE}


class RunningServer(Child):
    """A started server, on a port of its own.

    :param environment: more variables of its process.
    :raises Fault: on entering, when it does not answer its first call; with the tail of its output
    """

    def __init__(self, server: Server, cores: Iterable[int], **environment: str) -> None:
        self.port = free_port()
        words = server.arguments.format(port=self.port).split()
        variables = server.environment(BENCH_PORT=str(self.port), **environment)
        super().__init__([server.python(), *words], cores, variables, PEERS)

    def __enter__(self) -> RunningServer:
        super().__enter__()
        try:
            # gunicorn's master listens before its worker is up, and resets what came too early
            self.wait_for("an answer", self.answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def connect(self, **fields: str) -> loadgen.Connection:
        return loadgen.Connection(self.port, **fields)

    def answers(self) -> bool:
        with self.connect() as connection:
            connection.add()
        return True


@dataclass(frozen=True)
class Phase:
    """What the load generator is asked for; `items` of a batch, 0 for single calls."""

    name: str
    connections: int
    calls: int
    body: bytes = loadgen.ADD
    items: int = 0


class LoadGenerator(Runner):
    """The load generator's process, on the given cores."""

    def __init__(self, cores: Iterable[int]) -> None:
        super().__init__(Peer("load", "", "loadgen"), Path(__file__).resolve().parent, cores)

    def measure(self, server: RunningServer, phase: Phase) -> dict[str, Any]:
        """Warm up, then measure one phase; the server's CPU is read between the two and at the end.

        Times are µs: CPU of an item, the rate of items, latency of a call.

        :raises Fault: a wrong answer, a time-out, or the server died
        """
        items = phase.items or 1
        job = {
            "port": server.port,
            "body": phase.body.decode(),
            "items": phase.items,
            "connections": phase.connections,
            "warm": max(phase.calls // 10, 200 // items, 2 * phase.connections),
            "calls": phase.calls,
            "limit": 60.0,
        }
        try:
            self.run("serve", job)
            try:
                clock = server.cpu_clock()
                before = clock()
            except Fault:
                self.say("cancel")  # and its own complaint is next
                self.hear()
                raise
            self.say("go")
            result = self.hear()
            cpu, done = clock() - before, phase.calls * items
        except Fault as fault:
            raise Fault(f"{fault} ({server.tail()})") from None
        laps = {name: result[name] * 1e6 for name in ("p50", "p99")}
        return {"cpu": cpu / done * 1e6, "rate": done / result["seconds"], **laps}
