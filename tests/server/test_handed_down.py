"""Connections that a module opens when it is imported, before its workers are forked."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.http import call, result_of
from ..support.programs import Program, gunicorn, program
from ..support.waiting import gather

MODULE = """
import os, socket, sqlite3
import gemstone_sync
import sqlalchemy
from sqlalchemy.pool import QueuePool, StaticPool

PORT = int(os.environ["PEER"])

class Connection(sqlite3.Connection):
    '''One over the network: its server says who opened it.'''

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.socket = socket.create_connection(("127.0.0.1", PORT))

    def close(self):
        self.socket.close()
        super().close()

def connect():
    return Connection(":memory:", check_same_thread=False)

class Service(gemstone_sync.MicroService):
    name = "handed.down"
    port = 0
    skip_configuration = True

    @gemstone_sync.exposed_method()
    def ask(self):
        return [os.getpid(), answer()]

    def on_service_start(self):
        print(self.url)

def answer():
    return None

{opened}
service = Service()
if __name__ == "__main__":
    service.start(workers=2)
"""

ENGINE = """
engine = sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=QueuePool)

def answer():
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select 1")).all()
        return connection.connection.dbapi_connection.socket.getsockname()[1]

answer()
"""

#: What is opened, and how many connections the workers share.
OPENED = {
    "an engine": (ENGINE, 0),
    "an engine, and a session of it": (ENGINE + "session = engine.connect()", 1),
    "an engine that keeps one": (ENGINE.replace("poolclass=QueuePool", "poolclass=StaticPool"), 1),
    "sockets": (
        "kept = [socket.create_connection(('127.0.0.1', PORT)) for _ in range(2)]\n"
        "socket.setdefaulttimeout(3)",
        1,  # named once
    ),
    "a local socket": (
        "listening = socket.socket(socket.AF_UNIX)\nlistening.bind('local')\nlistening.listen()\n"
        "kept = socket.socket(socket.AF_UNIX)\nkept.connect('local')",
        1,
    ),
    "what nobody answers on": (
        "kept = [*socket.socketpair(), socket.create_server(('127.0.0.1', 0)), *os.pipe()]\n"
        "kept += [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()]\n"
        "kept[-2].connect(('127.0.0.1', PORT))",
        0,
    ),
    "a database in memory": (
        "engine = sqlalchemy.create_engine('sqlite://', poolclass=StaticPool,"
        " connect_args={'check_same_thread': False})\n"
        "with engine.begin() as c: c.execute(sqlalchemy.text('create table t (n)'))\n"
        "def answer():\n"
        "    with engine.connect() as c: return len(c.exec_driver_sql('select * from t').all())\n",
        0,
    ),
}


@pytest.fixture
def peer() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def check(started: Program, shared: int, kind: str) -> None:
    started.wait_until_ready()
    answers: dict[int, object] = {}

    def both() -> bool:
        calls = [lambda: result_of(call(started.port, "ask"))] * 20
        answers.update(dict(gather(calls)))
        return len(answers) == 2

    started.wait_until(both, "answers of both workers")
    told = [line for line in started.stderr.splitlines() if "shared by all" in line]
    assert len(told) == shared, started.stderr
    if kind.startswith("an engine") and kind != "an engine that keeps one":
        assert len(set(answers.values())) == 2
    assert started.terminate() == 0


@pytest.mark.parametrize("kind", OPENED)
def test_workers_have_connections_of_their_own_or_the_log_says(
    tmp_path: Path, peer: int, kind: str
) -> None:
    opened, shared = OPENED[kind]
    environment = {"PEER": str(peer)}
    text = MODULE.replace("{opened}", opened)
    with program(text, tmp_path, environment=environment) as started:
        check(started, shared, kind)


@pytest.mark.slow  # gunicorn imports the framework in each
@pytest.mark.parametrize("under", ["gevent", "gemstone_sync.server.GunicornWorker"])
@pytest.mark.parametrize("kind", ["an engine", "sockets"])
def test_preloaded_by_gunicorn(tmp_path: Path, peer: int, kind: str, under: str) -> None:
    opened, shared = OPENED[kind]
    (tmp_path / "handed.py").write_text(MODULE.replace("{opened}", opened))
    words = ("-k", under, "--preload", "-w", "2")
    with gunicorn("handed:service", tmp_path, *words, environment={"PEER": str(peer)}) as started:
        check(started, shared, kind)
