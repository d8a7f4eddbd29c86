"""AmqpLink and a RabbitMQ that is absent, wrong, frozen, killed, starved or no RabbitMQ at all."""

import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Iterator

import gevent
import pytest

from gemstone_sync.event.link import LinkLost, LinkRefused
from gemstone_sync.event.links.amqp import AmqpLink
from gemstone_sync.event.signals import Signal
from gemstone_sync.event.topology import Topology
from tests.support.machine import free_port
from tests.support.programs import REPOSITORY, fork
from tests.support.rabbitmq import RabbitMq, private_rabbitmq
from tests.support.waiting import LIMIT, wait_until

from .amqp_support import named, owner, queues_of

CERTIFICATE = REPOSITORY / "tests" / "data" / "localhost.pem"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with private_rabbitmq(tmp_path_factory.mktemp("rabbitmq"), CERTIFICATE) as broker:
        yield broker


@pytest.fixture
def topology() -> Topology:
    return Topology(f"t{time.monotonic_ns()}")


def failure(url: str, **options: object) -> LinkLost:
    """What opening a link there raises."""
    link = AmqpLink(url, **options)  # type: ignore[arg-type]
    with pytest.raises(LinkLost) as caught:
        link.open()
    link.close()
    return caught.value


@contextlib.contextmanager
def server(*says: bytes, then_closes: bool = False) -> Iterator[int]:
    """Something that listens, says this and no more, and keeps the connection unless told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = []

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                for piece in says:
                    connection.sendall(piece)
                    gevent.sleep(0.02)
                if then_closes:
                    connection.close()

        serving = gevent.spawn(serve)
        try:
            yield listener.getsockname()[1]
        finally:
            serving.kill()
            for connection in connections:
                connection.close()


# Opening


def test_where_nobody_listens_it_is_lost_at_once() -> None:
    port = free_port()
    begin = time.monotonic()

    error = failure(f"amqp://shop:hunter2@127.0.0.1:{port}/orders", connect_timeout=LIMIT)

    assert str(error) == f"RabbitMQ at 127.0.0.1:{port}/orders: nobody listens there"
    assert not isinstance(error, LinkRefused)
    assert time.monotonic() - begin < LIMIT / 2


def test_a_host_that_does_not_exist() -> None:
    assert "there is no such host" in str(failure("amqp://shop:hunter2@nobody.invalid"))


def test_a_wrong_password_is_refused_at_once_and_never_shown(broker: RabbitMq) -> None:
    begin = time.monotonic()

    url = broker.url.replace("guest:guest", "guest:hunter2")
    error = failure(url, connect_timeout=LIMIT)

    assert isinstance(error, LinkRefused)
    assert "the user name, the password or the rights do not suffice" in str(error)
    assert "hunter2" not in f"{error!r} {error.__cause__!r}"
    assert time.monotonic() - begin < LIMIT / 2


def test_a_virtual_host_that_does_not_exist_is_refused(broker: RabbitMq) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{broker.port}/orders"
    error = failure(url, connect_timeout=LIMIT)

    assert isinstance(error, LinkRefused)
    assert "vhost orders not found" in str(error)


@pytest.mark.parametrize("end", ["", "/", "//", "/%2F"])
def test_the_virtual_host_is_the_default_one_unless_named(broker: RabbitMq, end: str) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{broker.port}{end}"
    link = AmqpLink(url, connect_timeout=LIMIT)

    link.open()

    link.close()
    assert str(link) == f"RabbitMQ at 127.0.0.1:{broker.port}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@127.0.0.1",
        "127.0.0.1",
        "amqp://shop:hunter2/x@127.0.0.1",
        "amqp://shop:hunter2@127.0.0.1:hunter2",
        "amqp://shop:hunter2@127.0.0.1?hunter2=1",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="URL of RabbitMQ") as caught:
        AmqpLink(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "says",
    [
        [b""],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"\x01\x00\x00\x00\x00\x00\x10"],
        [b"\0" * 1000],
        [b"\x01" * 1000],
        [b"AMQP\0\0\x09\x01"],
        [b"\x08\0\0\0\0\0\0\xce"] * 1000,
        [b"\x01\0\0\0\0\0\x04\0\x0a\0\x0a\xce"],
    ],
    ids=["silent", "HTTP", "half", "zeros", "ones", "AMQP", "heartbeats", "short"],
)
@pytest.mark.parametrize("then_closes", [False, True], ids=["staying", "closing"])
def test_what_is_no_rabbitmq_is_lost_in_time(says: list[bytes], then_closes: bool) -> None:
    begin = time.monotonic()
    with server(*says, then_closes=then_closes) as port:
        error = failure(f"amqp://shop:hunter2@127.0.0.1:{port}", connect_timeout=0.3)

    assert f"127.0.0.1:{port}" in str(error)
    assert "hunter2" not in str(error)
    assert time.monotonic() - begin < LIMIT


def test_of_several_brokers_the_first_that_answers_is_taken(broker: RabbitMq) -> None:
    url = f"amqp://127.0.0.1:{free_port()};{broker.url}"
    link = AmqpLink(url, connect_timeout=LIMIT)

    link.open()
    link.close()

    assert str(link) == f"RabbitMQ at 127.0.0.1:{broker.port}"


def test_before_it_is_open_and_after_it_is_closed_it_is_lost(broker: RabbitMq) -> None:
    link = AmqpLink(broker.url, connect_timeout=LIMIT)
    with pytest.raises(LinkLost, match="not connected"):
        link.pump()
    link.open()
    link.close()
    link.close()

    with pytest.raises(LinkLost, match="not connected"):
        link.wait(Signal(), 1)


def test_closing_is_orderly_and_what_was_said_before_arrives(
    broker: RabbitMq, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="gemstone_sync")
    queues = queues_of(topology, "paid")
    with owner(broker.url, topology, queues, name=topology.application) as shop:
        shop.publish(*(shop.outgoing("paid") for _ in range(50)))
        shop.consume(named(queues, ":service:"))
        shop.link.acknowledge(shop.receive(50))

    closing = wait_until(
        lambda: [
            line
            for line in broker.log.splitlines()
            if f"- {topology.application}," in line and "closing AMQP connection" in line
        ],
        "its last line in the log",
    )
    assert "[info]" in closing[0]
    assert not caplog.records
    with owner(broker.url, topology) as again:
        assert again.link.size(named(queues, ":service:")) == 0


# TLS


def test_over_tls(broker: RabbitMq, topology: Topology) -> None:
    url = f"amqps://guest:guest@localhost:{broker.tls_port}//"
    queues = queues_of(topology, "paid")
    with owner(url, topology, queues, tls={"ca_certs": str(CERTIFICATE)}) as shop:
        shop.consume(named(queues, ":service:"))
        bodies = [b'"%b"' % (b"x" * size) for size in (10, 100_000, 1_000_000)] * 5

        assert set(shop.publish(*(shop.outgoing("paid", body=body) for body in bodies))) == {None}

        assert [delivery.envelope.body for delivery in shop.receive(len(bodies))] == bodies


@pytest.mark.parametrize(
    ("host", "tls"),
    [("localhost", {}), ("127.0.0.2", {"ca_certs": str(CERTIFICATE)})],
    ids=["nobody we trust", "another's"],
)
def test_a_certificate_that_is_not_valid_is_refused(
    broker: RabbitMq, host: str, tls: dict[str, str]
) -> None:
    with socket.create_server((host, 0)) as listener:
        # Only for 127.0.0.2: RabbitMQ itself listens on 127.0.0.1.
        port = broker.tls_port if host == "localhost" else listener.getsockname()[1]
        serving = gevent.spawn(tls_server, listener)
        url = f"amqps://guest:hunter2@{host}:{port}"
        error = failure(url, tls=tls, connect_timeout=LIMIT)
        serving.kill()

    assert isinstance(error, LinkRefused)
    assert "its certificate is not valid" in str(error)


def tls_server(listener: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    connection, _ = listener.accept()
    tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    with contextlib.suppress(OSError), tls:
        tls.do_handshake()


def test_tls_where_none_is_spoken(broker: RabbitMq) -> None:
    error = failure(f"amqps://guest:guest@localhost:{broker.port}", connect_timeout=1)

    assert not isinstance(error, LinkRefused)


# A broker that goes away


@pytest.mark.slow
def test_a_killed_broker_leaves_the_unsettled_to_the_caller(
    broker: RabbitMq, topology: Topology
) -> None:
    with owner(broker.url, topology, queues_of(topology, "paid")) as shop:
        sent = 0

        def publish_more() -> bool:
            nonlocal sent
            is_last = len(shop.settled) > 1000 and broker.process.poll() is None
            # Killed while it is frozen, it cannot confirm the last ones.
            with broker.frozen() if is_last else contextlib.nullcontext():
                shop.link.publish([shop.outgoing("paid", body=b"%d" % n) for n in range(20)])
                sent += 20
                if is_last:
                    broker.kill()
            return False

        with pytest.raises(LinkLost):
            shop.until(publish_more, "the end")
        broker.start()
    assert {error for _name, error in shop.settled} == {None}
    confirmed = len(shop.settled)
    assert confirmed < sent

    with owner(broker.url, topology) as again:
        queue = named(queues_of(topology, "paid"), ":service:")
        # Quorum queues need a moment until they have a leader again.
        again.until(lambda: again.link.size(queue) >= confirmed, "what was confirmed")


@pytest.mark.slow
def test_a_broker_that_is_stopped_says_so(broker: RabbitMq, topology: Topology) -> None:
    with owner(broker.url, topology) as shop:
        stopping = gevent.spawn(broker.stop)
        with pytest.raises(LinkLost, match=r"CONNECTION_FORCED|the connection broke"):
            shop.until(lambda: False, "the end")
        with pytest.raises(LinkLost):
            shop.link.publish([shop.outgoing("paid")])
    stopping.get(timeout=LIMIT)
    broker.start()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "publishing"])
def test_a_frozen_broker_is_noticed_by_its_heartbeat(
    broker: RabbitMq, topology: Topology, busy: bool
) -> None:
    with owner(broker.url, topology, queues_of(topology, "paid"), heartbeat=1) as shop:
        shop.publish(shop.outgoing("paid"))
        with broker.frozen():
            begin = time.monotonic()

            def go_on() -> bool:
                if busy:
                    shop.link.publish([shop.outgoing("paid", body=b"x" * 10_000)])
                return False

            with pytest.raises(LinkLost, match="heartbeats"):
                shop.until(go_on, "the end")
            noticed = time.monotonic() - begin
            closing = time.monotonic()
            shop.link.close()
            assert time.monotonic() - closing < LIMIT / 2
    assert 1 < noticed < LIMIT


def test_a_frozen_broker_holds_up_neither_opening_nor_closing(
    broker: RabbitMq, topology: Topology
) -> None:
    with owner(broker.url, topology) as shop, broker.frozen():
        begin = time.monotonic()
        assert "no answer in time" in str(failure(broker.url, connect_timeout=0.5))
        assert time.monotonic() - begin < LIMIT / 2

        shop.link.close()

        assert time.monotonic() - begin < LIMIT


def test_a_heartbeat_keeps_an_idle_connection(broker: RabbitMq, topology: Topology) -> None:
    """The broker ends it once it has heard nothing for two of its heartbeats."""
    with owner(broker.url, topology, heartbeat=2) as shop:
        end = time.monotonic() + 6
        shop.until(lambda: time.monotonic() > end, "six seconds")

        assert shop.publish(shop.outgoing("paid")) == [None]


# A broker that takes nothing


@pytest.mark.slow
def test_a_memory_alarm_blocks_and_nothing_hangs(broker: RabbitMq, topology: Topology) -> None:
    with owner(broker.url, topology, queues_of(topology, "paid"), heartbeat=2) as shop:
        shop.publish(shop.outgoing("paid"))
        # Meanwhile the link wants its heartbeats.
        alarm = gevent.spawn(broker.set_memory_alarm, True)
        shop.until(alarm.ready, "the alarm")
        try:
            shop.link.publish([shop.outgoing("paid", body=b'"late"') for _ in range(500)])
            shop.until(lambda: shop.link.blocked, "connection.blocked")
            assert "memory" in shop.link.blocked_reason
            before = len(shop.settled)
            # Longer than two heartbeats: a blocked broker is not a lost one.
            begin = time.monotonic()
            shop.link.publish([shop.outgoing("paid", body=b"x" * 1000) for _ in range(2000)])
            shop.until(lambda: time.monotonic() > begin + 5, "five seconds")
            assert len(shop.settled) < before + 500

            other = AmqpLink(broker.url, connect_timeout=LIMIT)
            other.open()
            other.declare(topology)
            closing = time.monotonic()
            other.close()
            assert time.monotonic() - closing < LIMIT / 2
        finally:
            calm = gevent.spawn(broker.set_memory_alarm, False)

        shop.until(calm.ready, "the end of the alarm")
        shop.until(lambda: len(shop.settled) == 2501, "the confirms")
        assert {error for _name, error in shop.settled} == {None}
        assert (shop.link.blocked, shop.link.blocked_reason) == (False, "")


@pytest.mark.slow
def test_a_blocked_link_closes_in_time(broker: RabbitMq, topology: Topology) -> None:
    with owner(broker.url, topology) as shop:
        broker.set_memory_alarm(True)
        try:
            shop.link.publish([shop.outgoing("paid", body=b"x" * 1_000_000) for _ in range(50)])
            shop.until(lambda: shop.link.blocked, "connection.blocked")
            begin = time.monotonic()
            shop.link.close()
            assert time.monotonic() - begin < LIMIT / 2
        finally:
            broker.set_memory_alarm(False)


def test_a_message_that_is_too_large_for_the_broker_is_refused_once(
    broker: RabbitMq, topology: Topology
) -> None:
    with owner(broker.url, topology) as shop, pytest.raises(LinkLost, match="larger than"):
        shop.publish(
            shop.outgoing("small"), shop.outgoing("large", body=b"x" * (broker.largest + 1))
        )
    # ... so that it is not published again, over the next link, and again.
    errors = dict(shop.settled)
    assert errors["large"] == (
        f"its body has {broker.largest + 1} bytes and RabbitMQ takes {broker.largest}"
    )
    assert errors.get("small") is None


# Processes and threads


UNPATCHED = """
import sys, threading
from gevent import monkey
assert not monkey.is_module_patched("socket")
sys.path.insert(0, REPOSITORY)
from gemstone_sync.event.links.amqp import AmqpLink
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.topology import Topology
from tests.event.links.amqp_support import Owner, owner, queues_of, named

def run(number):
    topology = Topology(f"{APPLICATION}-{number}")
    queues = queues_of(topology, "paid")
    with owner(URL, topology, queues) as shop:
        shop.consume(named(queues, ":service:"), prefetch=500)
        assert set(shop.publish(*(shop.outgoing("paid") for _ in range(500)))) == {None}
        shop.link.acknowledge(shop.receive(500))
        timer = threading.Timer(0.2, shop.signal.set)
        timer.start()
        while not shop.signal.is_set():
            shop.link.wait(shop.signal, 30)
            shop.link.pump()
    print("done")

threads = [threading.Thread(target=run, args=[number]) for number in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_in_a_process_that_is_not_patched_each_thread_has_its_link(
    broker: RabbitMq, topology: Topology, run_python
) -> None:
    values = (
        f"REPOSITORY, URL, APPLICATION = {str(REPOSITORY)!r}, {broker.url!r}, "
        f"{topology.application!r}\n"
    )

    done = run_python(values + UNPATCHED)

    assert (done.stdout, done.stderr) == ("done\ndone\n", "")


def test_a_forked_child_that_gives_a_link_up_leaves_it_to_its_parent(
    broker: RabbitMq, topology: Topology
) -> None:
    with owner(broker.url, topology, queues_of(topology, "paid")) as shop:
        shop.publish(shop.outgoing("paid"))
        child = fork()
        if child == 0:
            status = 1
            try:
                shop.link.abandon()
                shop.link.close()
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert shop.publish(shop.outgoing("paid")) == [None]
