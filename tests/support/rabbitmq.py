"""The RabbitMQs of the tests: one of a test's own, and the machine's.

::

    @pytest.fixture(scope="module")
    def broker(tmp_path_factory):
        with private_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
            yield broker

    @pytest.fixture(scope="session")
    def rabbitmq():
        with shared_rabbitmq() as rabbitmq:
            yield rabbitmq

    @pytest.fixture
    def topology(rabbitmq):
        return Topology(rabbitmq.new_application())

A private one takes some five seconds to start, hence the scope. It may be killed, frozen and
starved; whoever does leaves it as it was: started, awake, fed.
"""

import contextlib
import itertools
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import amqp
import gevent

from .machine import absent, free_port

__all__ = ["RabbitMq", "SharedRabbitMq", "private_rabbitmq", "shared_rabbitmq"]

#: Debian's scripts, without the wrappers that change user and folder.
_SCRIPTS = Path("/usr/lib/rabbitmq/bin")

#: Seconds for a broker to start on a machine that is busy.
_START = 60.0

_SHARED = "127.0.0.1:5672"


class RabbitMq:
    """A RabbitMQ of the test's own: its name, ports and files are not the machine's.

    :ivar tls_port: where it speaks TLS; 0 when no certificate was given.
    """

    #: Bytes that a message may have.
    largest = 4_000_000

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.port = free_port()
        self.tls_port = free_port() if certificate is not None else 0
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.node = f"gemstone-{uuid.uuid4().hex[:12]}@localhost"
        self._folder = folder
        lines = [f"listeners.tcp.local = 127.0.0.1:{self.port}", "log.console = false"]
        lines.append(f"max_message_size = {self.largest}")
        if certificate is not None:
            lines += [
                f"listeners.ssl.local = 127.0.0.1:{self.tls_port}",
                *(f"ssl_options.{what} = {certificate}" for what in ("certfile", "keyfile")),
            ]
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (folder / "enabled_plugins").write_text("[].\n")
        # The machine's own names another node and is read unless there is one.
        (folder / "rabbitmq-env.conf").write_text("")
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
                ["sh", "-c", f"ulimit -n {_files()}; exec {_SCRIPTS}/rabbitmq-server"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + _START
        while not self._answers():
            output_text = (self._folder / "output.txt").read_text()
            assert self.process.poll() is None, f"RabbitMQ has ended:\n{output_text}"
            assert time.monotonic() < end, f"no RabbitMQ after {_START} s:\n{output_text}"
            gevent.sleep(0.05)

    def _answers(self) -> bool:
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
        return _run([str(_SCRIPTS / "rabbitmqctl"), "-q", "-n", self.node], arguments, self)

    @property
    def log(self) -> str:
        """What it has written into its log."""
        return "".join(path.read_text() for path in (self._folder / "log").glob("*.log"))

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to find its node."""
        return self._environment


class SharedRabbitMq:
    """The machine's RabbitMQ, which others use too.

    Every quorum queue reserves three file descriptors for as long as it is there. With the usual
    limit of 1024 some 300 of them are all that fit, and with one more RabbitMQ takes no connection
    and answers nobody: queues must not be left until the session ends.

    :ivar prefix: what the names of all of the test's applications start with.
    """

    url = f"amqp://guest:guest@{_SHARED}//"

    #: How many applications there are at once.
    _MOST = 10

    def __init__(self) -> None:
        self.prefix = f"test-{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._applications: list[str] = []

    def new_application(self) -> str:
        """A name for a topology that nobody else uses: for one test.

        Its queues and exchanges are deleted in the end, or once some ten newer ones were asked for.
        """
        if len(self._applications) >= self._MOST:
            old = self._applications[: self._MOST // 2]
            del self._applications[: self._MOST // 2]
            self._remove([f"{application}{mark}" for application in old for mark in ":."])
        self._applications.append(f"{self.prefix}-{next(self._numbers)}")
        return self._applications[-1]

    def remove_all(self) -> None:
        """Delete the queues and exchanges of all applications."""
        self._remove([f"{self.prefix}-"])

    def _remove(self, starts: list[str]) -> None:
        # In the broker itself: a list over AMQP there is none, and rabbitmqctl takes half a second
        # for each call.
        names = ", ".join(f'<<"{start}">>' for start in starts)
        _run(["rabbitmqctl", "-q", "eval"], [_REMOVE.replace("STARTS", names)])


#: In Erlang, for RabbitMQ 3.10 to 4: delete what has a name that starts like that.
_REMOVE = """
Ours = fun({resource, _, _, Name}) ->
    lists:any(fun(Start) -> binary:longest_common_prefix([Name, Start]) == byte_size(Start) end,
              [STARTS])
end,
rpc:parallel_eval(
    [{rabbit_amqqueue, delete, [Queue, false, false, <<"tests">>]}
        || Queue <- rabbit_amqqueue:list(<<"/">>), Ours(amqqueue:get_name(Queue))]),
[rabbit_exchange:delete(Name, false, <<"tests">>)
    || Exchange <- rabbit_exchange:list(<<"/">>), Name <- [element(2, Exchange)], Ours(Name)],
ok.
"""


def connect(url: str) -> amqp.Connection:
    """A connection of plain py-amqp, for what a link does not do: ``with connect(url) as c``."""
    authority = url.partition("://")[2].partition("/")[0]
    credentials, _, host = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    return amqp.Connection(host, userid=user, password=password, connect_timeout=10)


@contextlib.contextmanager
def private_rabbitmq(folder: Path, certificate: Path | None = None) -> Iterator[RabbitMq]:
    """A broker of the test's own, which ends with it.

    :param certificate: a PEM file with a key; then it speaks TLS on another port.
    """
    if not (_SCRIPTS / "rabbitmq-server").exists():
        absent("rabbitmq-server is not installed (Debian's package)")
    broker = RabbitMq(folder, certificate)
    try:
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(folder / "data", ignore_errors=True)


@contextlib.contextmanager
def shared_rabbitmq() -> Iterator[SharedRabbitMq]:
    """The machine's broker, with nothing left behind."""
    try:
        with connect(SharedRabbitMq.url):
            pass
    except OSError:
        absent(f"no RabbitMQ answers at {_SHARED}")
    shared = SharedRabbitMq()
    try:
        yield shared
    finally:
        shared.remove_all()


def _files() -> int:
    """As many open files as Debian's unit gives it, or as many as we may give."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)


def _run(command: list[str], arguments: object, broker: RabbitMq | None = None) -> str:
    done = subprocess.run(
        [*command, *arguments],  # type: ignore[misc]
        env=None if broker is None else broker.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_START,
    )
    assert done.returncode == 0, f"{command} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout
