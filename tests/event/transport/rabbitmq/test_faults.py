"""AmqpLink and a RabbitMQ that is absent, wrong, frozen, killed, starved or no RabbitMQ at all."""

import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from gemstone_sync.event.link import LinkLost, LinkRefused
from gemstone_sync.event.topology import Topology
from gemstone_sync.event.transport.rabbitmq.link import AmqpLink
from gemstone_sync.event.wakeups import Signal
from tests.support.machine import free_port
from tests.support.programs import REPOSITORY, fork
from tests.support.rabbitmq import RabbitMq
from tests.support.waiting import LIMIT, wait_until

from ..support import Owner, amqp, queues_of

TLS = {"ca_certs": RabbitMq.certificate}

OwnShop = Callable[..., contextlib.AbstractContextManager[Owner]]


@pytest.fixture
def own_shop(own_broker):
    """``with own_shop() as shop``: of a service that handles "paid", at the tests' own RabbitMQ."""
    topology = Topology(f"t{time.monotonic_ns()}")

    def own_shop(url=own_broker.url, **options):
        return amqp(url, topology, queues_of(topology, "paid"), **options)

    return own_shop


def failure(url: str, **options: Any) -> LinkLost:
    """What opening a link there raises."""
    link = AmqpLink(url, **{"connect_timeout": LIMIT, **options})
    with pytest.raises(LinkLost) as caught, soon():
        link.open()
    link.close()
    return caught.value


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """It waits for no time-out."""
    begin = time.monotonic()
    try:
        yield
    finally:
        assert time.monotonic() - begin < LIMIT / 2


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], Any], host: str = "127.0.0.1") -> Iterator[int]:
    """Something that listens, treats each connection like that, and keeps it."""
    with socket.create_server((host, 0)) as listener, contextlib.ExitStack() as stack:

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                stack.enter_context(connection)
                serve(connection)

        serving = gevent.spawn(accept)
        try:
            yield listener.getsockname()[1]
        finally:
            serving.kill()


@pytest.mark.parametrize(
    ("url", "said", "refused"),
    [
        ("shop:hunter2@127.0.0.1:PORT/orders", "PORT/orders: nobody listens there", False),
        ("guest:guest@localhost:5672/tls", "localhost:5672", False),
        ("shop:hunter2@nobody.invalid", "there is no such host", False),
        ("guest:hunter2@127.0.0.1", "the user name, the password or the rights do not", True),
        ("guest:guest@127.0.0.1/orders", "vhost orders not found", True),
    ],
    ids=["port", "TLS", "host", "password", "virtual host"],
)
def test_a_broker_that_cannot_be_used_is_told_at_once_without_the_password(
    shared_broker, url, said, refused
):
    port = str(free_port())
    error = failure(f"amqp{'s' * url.endswith('tls')}://{url.replace('PORT', port)}")
    assert said.replace("PORT", port) in str(error)
    assert isinstance(error, LinkRefused) is refused
    assert "hunter2" not in f"{error!r} {error.__cause__!r}"


@pytest.mark.parametrize("end", ["", "/", "//", "/%2F"])
def test_the_first_broker_that_answers_is_taken_with_its_default_virtual_host(shared_broker, end):
    url = f"amqp://127.0.0.1:{free_port()};amqp://guest:guest@127.0.0.1:5672{end}"
    link = AmqpLink(url, connect_timeout=LIMIT)
    with pytest.raises(LinkLost, match="not connected"):
        link.pump()
    link.open()
    link.close()
    link.close()
    assert str(link) == "RabbitMQ at 127.0.0.1:5672"
    with pytest.raises(LinkLost, match="not connected"):
        link.wait(Signal(), 1)


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2@127.0.0.1", "127.0.0.1", "amqp://shop:hunter2/x@127.0.0.1",
     "amqp://shop:hunter2@127.0.0.1:hunter2", "amqp://shop:hunter2@127.0.0.1?hunter2=1"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_its_password(url):
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
def test_what_is_no_rabbitmq_is_lost_in_time(says, then_closes):
    def serve(connection):
        for piece in says:
            connection.sendall(piece)
            gevent.sleep(0.02)
        if then_closes:
            connection.close()

    with server(serve) as port:
        error = failure(f"amqp://shop:hunter2@127.0.0.1:{port}", connect_timeout=0.1)

    assert f"127.0.0.1:{port}" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("host", "tls"), [("localhost", {}), ("127.0.0.2", TLS)], ids=["nobody we trust", "another's"]
)
def test_a_certificate_that_is_not_valid_is_refused(host, tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(RabbitMq.certificate)

    def shake_hands(connection):
        tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with contextlib.suppress(OSError), tls:
            tls.do_handshake()

    with server(shake_hands, host) as port:
        error = failure(f"amqps://guest:hunter2@{host}:{port}", tls=tls)

    assert isinstance(error, LinkRefused)
    assert "its certificate is not valid" in str(error)


@pytest.mark.slow  # the tests' own RabbitMQ
def test_over_tls(own_broker, own_shop):
    with own_shop(f"amqps://guest:guest@localhost:{own_broker.tls_port}//", tls=TLS) as shop:
        shop.consume(shop.queue("paid"))
        bodies = [b'"%b"' % (b"x" * size) for size in (10, 100_000, 1_000_000)] * 5
        assert set(shop.publish(*(shop.outgoing("paid", body=body) for body in bodies))) == {None}
        assert [delivery.envelope.body for delivery in shop.receive(len(bodies))] == bodies


@pytest.mark.slow  # the tests' own RabbitMQ
def test_closing_is_orderly_and_what_was_said_before_arrives(own_broker, own_shop, caplog):
    caplog.set_level(logging.DEBUG, logger="gemstone_sync")
    name = f"link-{time.monotonic_ns()}"
    with own_shop(name=name) as shop:
        queue = shop.fill(50)
        shop.consume(queue)
        shop.link.acknowledge(shop.receive(50))

    def last_lines():
        lines = [line for line in own_broker.log.splitlines() if f"- {name}," in line]
        return [line for line in lines if "closing AMQP connection" in line]

    assert "[info]" in wait_until(last_lines, "its last line in the log")[0]
    assert not caplog.records
    with own_shop() as again:
        assert again.link.size(queue) == 0


@pytest.mark.slow  # the tests' own RabbitMQ
def test_a_killed_broker_leaves_the_unsettled_to_the_caller(own_broker, own_shop):
    with own_shop() as shop:
        sent = 0

        def publish_more():
            nonlocal sent
            is_last = len(shop.settled) > 1000 and own_broker.process.poll() is None
            # Killed while it is frozen, it cannot confirm the last ones.
            with own_broker.frozen() if is_last else contextlib.nullcontext():
                shop.link.publish([shop.outgoing("paid", body=b"%d" % n) for n in range(20)])
                sent += 20
                if is_last:
                    own_broker.kill()
            return False

        with pytest.raises(LinkLost):
            shop.until(publish_more, "the end")
        own_broker.start()
    assert {error for _name, error in shop.settled} == {None}
    confirmed = len(shop.settled)
    assert confirmed < sent

    with own_shop() as again:
        queue = again.queue("paid")
        # Quorum queues need a moment until they have a leader again.
        again.until(lambda: again.link.size(queue) >= confirmed, "what was confirmed")


@pytest.mark.slow  # the tests' own RabbitMQ
def test_a_broker_that_is_stopped_says_so(own_broker, own_shop):
    with own_shop() as shop:
        stopping = gevent.spawn(own_broker.stop)
        with pytest.raises(LinkLost, match=r"CONNECTION_FORCED|the connection broke"):
            shop.until(lambda: False, "the end")
        with pytest.raises(LinkLost):
            shop.link.publish([shop.outgoing("paid")])
    stopping.get(timeout=LIMIT)
    own_broker.start()


@pytest.mark.slow  # the tests' own RabbitMQ, and two heartbeats
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "publishing"])
def test_a_frozen_broker_is_noticed_and_holds_up_neither_opening_nor_closing(
    own_broker, own_shop, busy
):
    with own_shop(heartbeat=1) as shop, own_shop() as other:
        shop.publish(shop.outgoing("paid"))
        with own_broker.frozen():
            begin = time.monotonic()

            def go_on():
                if busy:
                    shop.link.publish([shop.outgoing("paid", body=b"x" * 10_000)])
                return False

            with pytest.raises(LinkLost, match="heartbeats"):
                shop.until(go_on, "the end")
            assert time.monotonic() - begin > 1
            with soon():
                shop.link.close()
                other.link.close()
                assert "no answer in time" in str(failure(own_broker.url, connect_timeout=0.5))


@pytest.mark.slow  # more than two heartbeats
def test_a_heartbeat_keeps_an_idle_connection(shared_broker, topology):
    """The broker ends it once it has heard nothing for two of its heartbeats."""
    with amqp(shared_broker.url, topology, heartbeat=2) as shop:
        end = time.monotonic() + 6
        shop.until(lambda: time.monotonic() > end, "six seconds")
        assert shop.publish(shop.outgoing("paid")) == [None]


@pytest.mark.slow  # the tests' own RabbitMQ
def test_a_memory_alarm_blocks_and_nothing_hangs(own_broker, own_shop):
    with own_shop(heartbeat=2) as shop, own_shop() as other:
        shop.publish(shop.outgoing("paid"))
        # Meanwhile the link wants its heartbeats.
        alarm = gevent.spawn(own_broker.set_memory_alarm, True)
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

            with own_shop() as new, soon():
                new.link.close()
            other.link.publish([other.outgoing("paid", body=b"x" * 1_000_000) for _ in range(50)])
            other.until(lambda: other.link.blocked, "connection.blocked")
            with soon():
                other.link.close()
        finally:
            calm = gevent.spawn(own_broker.set_memory_alarm, False)

        shop.until(calm.ready, "the end of the alarm")
        shop.until(lambda: len(shop.settled) == 2501, "the confirms")
        assert {error for _name, error in shop.settled} == {None}
        assert (shop.link.blocked, shop.link.blocked_reason) == (False, "")


@pytest.mark.slow  # the tests' own RabbitMQ
def test_a_message_that_is_too_large_for_the_broker_is_refused_once(own_broker, own_shop):
    large = b"x" * (own_broker.largest + 1)
    with own_shop() as shop, pytest.raises(LinkLost, match="larger than"):
        shop.publish(shop.outgoing("small"), shop.outgoing("large", body=large))
    # ... so that it is not published again, over the next link, and again.
    errors = dict(shop.settled)
    assert errors["large"] == f"its body has {len(large)} bytes and RabbitMQ takes {len(large) - 1}"
    assert errors.get("small") is None


@pytest.mark.slow  # the tests' own RabbitMQ
@pytest.mark.parametrize("what", ["topic", "exchange"])
def test_what_the_user_may_not_publish_is_refused_once(own_broker, own_shop, what):
    control, user = own_broker.control, f"{what}-{time.monotonic_ns()}"
    with own_shop() as shop:
        events = shop.topology.events
    control("add_user", user, "p")
    try:
        control("set_permissions", user, ".*", ".*" if what == "topic" else r"(?<!work)$", ".*")
        control("set_topic_permissions", user, events, "^paid", ".*")
        url = own_broker.url.replace("guest:guest", f"{user}:p")
        with own_shop(url) as shop, pytest.raises(LinkLost, match="access to"):
            shop.publish(shop.outgoing("paid"), shop.outgoing("secret", broadcast=what == "topic"))
    finally:
        control("delete_user", user)
    # ... so that those beside it are not held up over the next link, and again.
    errors = dict(shop.settled)
    assert "the rights do not suffice" in errors["secret"]
    assert errors.get("paid") is None


UNPATCHED = """
import threading
from gevent import monkey
assert not monkey.is_module_patched("socket")
from gemstone_sync.event.topology import Topology
from tests.event.transport.support import amqp, queues_of

def run(number):
    topology = Topology(f"{APPLICATION}-{number}")
    with amqp(URL, topology, queues_of(topology, "paid")) as shop:
        shop.consume(shop.fill(500), prefetch=500)
        shop.link.acknowledge(shop.receive(500))
        timer = threading.Timer(0.2, shop.signal.set)
        timer.start()
        while not shop.signal.is_set():
            shop.link.wait(shop.signal, 30)
            shop.link.pump()
    print("done\\n", end="")

threads = [threading.Thread(target=run, args=[number]) for number in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_in_a_process_that_is_not_patched_each_thread_has_its_link(shared_broker, run_python):
    values = f"URL, APPLICATION = {shared_broker.url!r}, {shared_broker.new_application()!r}\n"
    done = run_python(values + UNPATCHED, PYTHONPATH=str(REPOSITORY))
    assert (done.stdout, done.stderr) == ("done\ndone\n", "")


def test_a_link_whose_greenlet_is_killed_at_its_goodbye_leaves_no_socket(shop):
    """No thread of `keep` is left, which would have the broker hold what it delivered for ever."""
    shop.link.keep_alive()
    connection = shop.link._connection
    sock = connection._transport.sock
    closing = gevent.spawn(shop.link.close)
    gevent.sleep(0)  # the broker cannot have answered yet
    closing.kill()
    assert sock.fileno() == -1
    assert connection._beating is None


def test_a_forked_child_that_gives_a_link_up_leaves_it_to_its_parent(shop):
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

    assert os.waitpid(child, 0)[1] == 0
    assert shop.publish(shop.outgoing("paid")) == [None]
