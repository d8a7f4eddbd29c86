"""The RabbitMQs of the tests: the machine's, and one of the tests' own.

Fixtures, one of each for all tests of a process; a conftest imports them: `shared_broker` for what
works, `own_broker` (slow: it takes some five seconds to start) for what kills, freezes or starves.
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest

from gemstone_sync.event.topology import Topology

from .machine import absent, free_port
from .programs import REPOSITORY
from .waiting import wait_until

#: Debian's scripts, without the wrappers that change user and folder.
_SCRIPTS = Path("/usr/lib/rabbitmq/bin")

#: As many open files as Debian's unit gives it, or as many as we may give.
_FILES = "ulimit -n 65536 || ulimit -n $(ulimit -Hn)"

#: Seconds for a broker to start on a machine that is busy.
_START = 180.0

_SHARED = "127.0.0.1:5672"


class RabbitMq:
    """A RabbitMQ of the tests' own: its name, ports and files are not the machine's.

    :ivar tls_port: where it speaks TLS, as ``localhost``.
    """

    #: Bytes that a message may have.
    largest = 4_000_000

    certificate = str(REPOSITORY / "tests" / "data" / "localhost.pem")

    def __init__(self, folder: Path) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.node = f"gemstone-{uuid.uuid4().hex[:12]}@localhost"
        self._folder = folder
        files = {
            "rabbitmq.conf": f"""
                listeners.tcp.local = 127.0.0.1:{self.port}
                listeners.ssl.local = 127.0.0.1:{self.tls_port}
                ssl_options.certfile = {self.certificate}
                ssl_options.keyfile = {self.certificate}
                log.console = false
                max_message_size = {self.largest}
            """,
            "enabled_plugins": "[].\n",
            # The machine's own names another node and is read unless there is one.
            "rabbitmq-env.conf": "",
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        self._environment = {
            **os.environ,
            "HOME": str(folder),  # where Erlang makes its cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            # The shell becomes the Erlang machine, so that the process we hold is the broker.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        self._environment.pop("NOTIFY_SOCKET", None)
        self.start()

    def start(self) -> None:
        """Start it, on the same port and data, and wait until it answers."""
        with (self._folder / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                ["sh", "-c", f"{_FILES}; exec {_SCRIPTS}/rabbitmq-server"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, f"RabbitMQ in {self._folder}", _START)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._folder / "output.txt").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"AMQP\0\0\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Have it end in order: it tells its clients."""
        self.process.terminate()
        self.process.wait(timeout=_START)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections, and the system takes new ones for it, and it says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def set_memory_alarm(self, on: bool) -> None:
        """Have it take no more messages, or take them again."""
        self.control("set_vm_memory_high_watermark", "0" if on else "0.4")

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``, which takes a second or two; its output."""
        return _run(
            f"{_SCRIPTS}/rabbitmqctl", "-q", "-n", self.node, *arguments, env=self._environment
        )

    @property
    def log(self) -> str:
        """What it has written into its log."""
        return "".join(path.read_text() for path in (self._folder / "log").glob("*.log"))


@contextlib.contextmanager
def private_rabbitmq(folder: Path) -> Iterator[RabbitMq]:
    if not (_SCRIPTS / "rabbitmq-server").exists():
        absent("rabbitmq-server is not installed (Debian's package)")
    broker = RabbitMq(folder)
    try:
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture(scope="session")
def brokers_own_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with private_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
def own_broker(brokers_own_process: RabbitMq) -> Iterator[RabbitMq]:
    """The one RabbitMQ of this process's tests; leave it started, awake, fed.

    What is in it stays: choose a name for your application that no other test has.
    """
    yield brokers_own_process
    if brokers_own_process.process.poll() is not None:
        brokers_own_process.start()


class SharedRabbitMq:
    """The machine's RabbitMQ, which others use too.

    Each quorum queue reserves three file descriptors. With the usual limit of 1024 some 300 fit,
    and with one more RabbitMQ answers nobody: queues must not be left until the session ends.
    """

    url = f"amqp://guest:guest@{_SHARED}//"

    def __init__(self) -> None:
        self._prefix = f"test-{uuid.uuid4().hex[:12]}-"
        self._numbers = itertools.count(1)
        #: Queues that this process has declared.
        self._declared: set[str] = set()

    def new_application(self) -> str:
        """A name for a topology that nobody else uses: for one test.

        What this process has declared for those before is deleted.
        """
        self._remove([*self._declared])  # a service of another test may still declare
        self._declared.clear()
        return f"{self._prefix}{next(self._numbers)}"

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Have py-amqp note what this process declares: AMQP has no list of what there is."""
        declare = amqp.Channel.queue_declare

        def noted(channel: Any, queue: str = "", *args: Any, **options: Any) -> Any:
            self._declared.add(queue)
            return declare(channel, queue, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(amqp.Channel, "queue_declare", noted)
            yield

    def remove_all(self) -> None:
        """Delete the applications' queues and exchanges, whoever has declared them."""
        listed = _run("rabbitmqctl", "-q", "list_queues", "--no-table-headers", "name")
        self._remove(listed.split("\n"), last=next(self._numbers))

    def _remove(self, queues: Iterable[str], last: int = 0) -> None:
        """Delete those of these that are ours, and the exchanges of so many applications."""
        with connect(self.url) as connection:
            channel = connection.channel()
            for queue in queues:
                if queue.startswith(self._prefix):
                    channel.queue_delete(queue)
            for topology in (Topology(f"{self._prefix}{number}") for number in range(1, last)):
                for exchange in (topology.events, topology.keyed, *topology.work):
                    channel.exchange_delete(exchange)


def connect(url: str) -> amqp.Connection:
    """A connection of plain py-amqp, for what a link does not do: ``with connect(url) as c``."""
    authority = url.partition("://")[2].partition("/")[0]
    credentials, _, host = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    return amqp.Connection(host, userid=user, password=password, connect_timeout=10)


@contextlib.contextmanager
def shared_rabbitmq() -> Iterator[SharedRabbitMq]:
    """The machine's broker, with nothing left behind."""
    try:
        connect(SharedRabbitMq.url).close()
    except OSError:
        absent(f"no RabbitMQ answers at {_SHARED}")
    shared = SharedRabbitMq()
    with shared.noting():
        try:
            yield shared
        finally:
            shared.remove_all()


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[SharedRabbitMq]:
    """The machine's RabbitMQ: ``Topology(shared_broker.new_application())``, once for each test."""
    with shared_rabbitmq() as shared:
        yield shared


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_START
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
