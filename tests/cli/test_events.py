"""``gemstone emit`` and ``gemstone listen``: over each broker, with right and wrong words."""

import contextlib
import json
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from gemstone_sync import (
    MicroService,
    RabbitMqEventTransport,
    SqliteEventTransport,
    current_event,
    event_handler,
)
from gemstone_sync.cli.listen import _Inbox
from gemstone_sync.event import Envelope
from gemstone_sync.event.link import Delivery
from gemstone_sync.testing import running_service
from tests.support.machine import free_port
from tests.support.programs import Program
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.redis import REDIS_URL, private_redis, shared_redis
from tests.support.waiting import LIMIT, wait_until

from .support import GEMSTONE, environment, line_of, run
from .terminal import CTRL_C, Terminal

VARIABLE = "GEMSTONE_EVENT_TRANSPORTS"


class Place(NamedTuple):
    """Where events of one test go: options, and what names the queues that are there."""

    words: list[str]
    queues: Callable[[], list[str]] = list


def emit(place: Place, *words: str, **options: Any) -> list[str]:
    """Run ``gemstone emit``; the ids that it prints."""
    done = run("emit", *words, *place.words, **options)
    assert (done.code, done.stderr) == (0, ""), done
    return done.stdout.split()


@contextlib.contextmanager
def listening(place: Place, folder: Path, *words: str) -> Iterator[Program]:
    """Run ``gemstone listen``, once it is subscribed."""
    command = [str(GEMSTONE), "listen", *words, *place.words]
    listener = Program(command, folder, environment={})
    try:
        listener.wait_until(lambda: "listening on" in listener.stderr, "that it listens")
        yield listener
    finally:
        listener.kill()


def printed(listener: Program, count: int) -> list[dict[str, Any]]:
    """The events that it has printed, once there are so many."""
    wait_until(lambda: listener.stdout.count("\n") >= count, f"{count} events")
    return [json.loads(line) for line in listener.stdout.splitlines()]


# Brokers


BROKERS = ("redis", "rabbitmq")


def sqlite_place(folder: Path) -> Place:
    path = folder / "events.db"

    def queues() -> list[str]:
        with contextlib.closing(sqlite3.connect(path)) as database:
            return [name for (name,) in database.execute("SELECT name FROM gemstone_queues")]

    return Place(["--transport", f"sqlite:///{path}"], queues)


@pytest.fixture
def sqlite(tmp_path):
    return sqlite_place(tmp_path)


@pytest.fixture(scope="module")
def machines_rabbitmq():
    with shared_rabbitmq() as broker:
        yield broker


@pytest.fixture(
    # That there are more brokers changes nothing of the command: one is enough for every day.
    params=["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in BROKERS)]
)
def place(request, tmp_path):
    """Each of the brokers."""
    if request.param == "sqlite":
        yield sqlite_place(tmp_path)
    elif request.param == "redis":
        with shared_redis() as prefix, redis.Redis.from_url(REDIS_URL) as client:
            application = prefix.rstrip(":")
            words = ["--transport", f"{REDIS_URL}?application={application}"]
            yield Place(words, lambda: [str(k) for k in client.scan_iter(f"*{application}*")])
    else:
        broker = request.getfixturevalue("machines_rabbitmq")
        application = broker.new_application()
        words = ["--transport", f"{broker.url}?application={application}"]
        yield Place(words, lambda: [n for n in rabbitmq_queues() if n.startswith(application)])


def rabbitmq_queues() -> list[str]:
    listed = ["rabbitmqctl", "-q", "list_queues", "--no-table-headers", "name"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()


# Both


def test_a_listener_prints_what_is_emitted_takes_no_work_and_leaves_no_queue(place, tmp_path):
    with listening(place, tmp_path, "orders.*", "said_hello") as listener:
        queues = place.queues()
        assert any("gemstone-listen" in name for name in queues)
        assert not any("work" in name for name in queues if "gemstone-listen" not in name)
        done = run("emit", "orders.paid", "--work", *place.words)
        assert "nobody handles work named 'orders.paid'" in line_of(done, 1)

        ids = emit(place, "orders.paid", "name=world", "times:=3", "--key", "4711")
        ids += emit(place, "said_hello", "--body", "null")
        emit(place, "orders.paid.late", "seen=no")
        ids += emit(place, "orders.sent")
        first, second, third = printed(listener, 3)
        assert listener.terminate() == 0

    assert listener.stderr.count("\n") == 1
    assert not any("gemstone-listen" in name for name in place.queues())
    assert [event["id"] for event in (first, second, third)] == ids
    assert (first["name"], first["key"]) == ("orders.paid", "4711")
    assert first["body"] == {"name": "world", "times": 3}
    assert first["emitter"] == "gemstone emit"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["emitted_at"])
    assert (second["name"], second["body"], second["key"]) == ("said_hello", None, None)
    assert (third["name"], third["body"]) == ("orders.sent", {})


class Shop(MicroService):
    """Notes what it gets."""

    name = "shop"

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self.event_transports = [transport]
        self.got: list[tuple[Any, Any, float]] = []

    @event_handler("orders.paid")
    def note(self, body: Any) -> None:
        self.got.append((body, current_event(), time.time()))


@pytest.fixture
def shop(tmp_path):
    with running_service(Shop(SqliteEventTransport(tmp_path / "events.db"))) as service:
        yield service


def test_a_service_gets_events_and_work_while_somebody_listens(shop, sqlite, tmp_path):
    with listening(sqlite, tmp_path, "#") as listener:
        emit(sqlite, "orders.paid", "order:=1")
        emit(sqlite, "orders.paid", "order:=2", "--work", "--key", "k")
        wait_until(lambda: len(shop.got) == 2, "an event and work")
        (event,) = printed(listener, 1)

    assert event["body"] == {"order": 1}
    (_, first, _), (_, second, _) = sorted(shop.got, key=lambda got: got[0]["order"])
    assert (first.broadcast, first.key) == (True, None)
    assert (second.broadcast, second.key) == (False, "k")


def test_a_delayed_event_comes_later(shop, sqlite):
    emit(sqlite, "orders.paid", "--delay", "700ms")
    wait_until(lambda: shop.got, "the event")

    (_, event, arrived) = shop.got[0]
    assert arrived - event.time >= 0.7


# emit


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ([], {}),
        (["a=1", "b:=1.5", "c:=[true,null]"], {"a": "1", "b": 1.5, "c": [True, None]}),
        (["d=x=y"], {"d": "x=y"}),
        (["--body", f'{{"n": {10**30}}}'], {"n": 10**30}),
        (["--body", '"text"'], "text"),
        (["--body", "0"], 0),
    ],
)
def test_a_body_is_made_of_parameters_or_given_whole(words, body, shop, sqlite):
    emit(sqlite, "orders.paid", *words)
    wait_until(lambda: shop.got, "the event")

    assert [got[0] for got in shop.got] == [body]


def test_lines_of_stdin_are_events_in_their_order(sqlite, tmp_path):
    lines = "\n".join(f'{{"n": {n}}}' for n in range(3000))
    with listening(sqlite, tmp_path, "--count", "3000") as listener:
        ids = emit(sqlite, "reading", "--body", "-", input=f"{lines}\n\n")
        assert listener.wait() == 0

    events = printed(listener, 3000)
    assert [event["body"]["n"] for event in events] == list(range(3000))
    assert [event["id"] for event in events] == ids


@pytest.mark.slow  # the pause is what is tested
def test_a_line_is_published_before_the_next_one_and_a_pause_takes_no_time_from_that(sqlite):
    command = [GEMSTONE, "emit", "reading", "--body", "-", "--json", "--timeout", "2s"]
    with subprocess.Popen(
        [*command, *sqlite.words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as emitter:
        for line in ("1\n", "2\n"):
            emitter.stdin.write(line)
            emitter.stdin.flush()
            assert set(json.loads(emitter.stdout.readline())) == {"id"}
            time.sleep(2.1)
        emitter.stdin.write("3")  # without an end of line
        emitter.stdin.close()
        assert set(json.loads(emitter.stdout.read())) == {"id"}
        assert emitter.wait(LIMIT) == 0


def test_nothing_runs_any_more_when_a_failed_emit_ends(run_python):
    # A thread that runs while the interpreter ends crashes it, now and then.
    done = run_python(
        "import sys\n"
        "from gemstone_sync.cli.main import main\n"
        "try:\n"
        f"    main(['emit', 'x', '--transport', 'amqp://127.0.0.1:{free_port()}'])\n"
        "except SystemExit as ended:\n"
        "    print(ended.code, len(sys._current_frames()))\n"
    )

    assert done.stdout == "3 1\n", done.stderr


@pytest.mark.slow
def test_events_with_a_key_go_where_services_with_other_shards_look(machines_rabbitmq):
    url, application = machines_rabbitmq.url, machines_rabbitmq.new_application()
    place = Place(["--transport", f"{url}?application={application}"])
    sharded = Place(["--transport", f"{url}?application={application}&shards=1"])
    key = next(k for k in "abcdef" if zlib.crc32(k.encode()) % 4 != 0)
    transport = RabbitMqEventTransport.from_url(url, application=application, shards=1)
    with running_service(Shop(transport)) as shop:
        emit(place, "orders.paid", "n:=1", "--key", key)
        emit(sharded, "orders.paid", "n:=2", "--key", key)
        wait_until(lambda: shop.got, "the event")

    assert [got[0] for got in shop.got] == [{"n": 2}]


def test_a_wrong_line_is_named_and_those_before_it_are_published(shop, sqlite):
    done = run("emit", "orders.paid", "--body", "-", *sqlite.words, input="1\n\n2\n{\n3\n")
    wait_until(lambda: len(shop.got) == 2, "both events")

    assert (done.code, len(done.stdout.split())) == (2, 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("gemstone emit: line 4 of stdin is no JSON")


def test_the_transport_of_the_command_line_or_the_first_of_the_environment(sqlite, tmp_path):
    for value in ["first.db", "first.db, redis://nowhere", '["first.db"]']:
        emit(Place([]), "said_hello", env={VARIABLE: value}, cwd=tmp_path)
        (tmp_path / "first.db").unlink()
    emit(sqlite, "said_hello", env={VARIABLE: "other.db"}, cwd=tmp_path)

    assert (tmp_path / "events.db").exists()
    assert not (tmp_path / "other.db").exists()


#: Words of both commands, after the event; "+" stands for a transport that is fine.
WRONG = [
    ("said_hello --transport memory://", "within one process"),
    ("said_hello --transport sqlite:///:memory:", "within one process"),
    ("said_hello --transport kafka://:secret@a", "'kafka'"),
    ("said_hello --transport sqlite://events.db", "'sqlite:///events.db'"),
    ("said_hello --transport redis://a:port", "redis://user:password@"),
    ("said_hello", "--transport"),
    ("said_hello --transport=", "--transport"),
    ("said_hello --transport 'a.db?application=a b'", "application"),
    ("said_hello + --timeout soon", "--timeout"),
    ("'said hello' +", "said hello"),
]

WRONG_EMIT = [
    ("", "EVENT"),
    ("orders.* +", "orders.*"),
    ("said_hello name +", "'name'"),
    ("said_hello n:=x +", "n:="),
    ("said_hello + --body {", "--body is no JSON"),
    ("said_hello a=secret + --body 2", "the parameter a and --body: a body is given in one way"),
    ("said_hello + --key=", "key"),
    ("said_hello --transport a.db?nonsense=2", "has no option nonsense"),
    ("said_hello + --delay -1", "--delay"),
    ("said_hello + --delay 20y", "20y"),
]

WRONG_LISTEN = [
    ("orders.paid# +", "orders.paid#"),
    ("--count 0 +", "--count"),
    ("--for 0 +", "--for"),
]


@pytest.mark.parametrize(
    ("command", "words", "named"),
    [
        *(("emit", *case) for case in WRONG + WRONG_EMIT),
        *(("listen", *case) for case in WRONG + WRONG_LISTEN),
    ],
)
def test_wrong_words_are_one_line(command, words, named, tmp_path):
    own = shlex.split(words.replace("+", "--transport a.db"))
    line = line_of(run(command, *own, cwd=tmp_path), 2)

    assert line.startswith(f"gemstone {command}: ")
    assert named in line
    assert "secret" not in line
    assert not list(tmp_path.iterdir())


def test_a_body_that_is_too_large_is_refused(sqlite):
    done = run("emit", "reading", "--body", "-", *sqlite.words, input=f'"{"x" * 1_000_001}"')

    assert "more than 1000000" in line_of(done, 2)


@pytest.mark.parametrize("command", ["emit", "listen"])
@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_is_away_is_one_line(command, scheme):
    port = free_port()
    words = (command, "said_hello", "--transport", f"{scheme}://:secret@127.0.0.1:{port}")

    line = line_of(run(*words), 3)
    assert str(port) in line
    assert "secret" not in line
    error = json.loads(line_of(run(*words, "--json"), 3))["error"]
    assert "no connection" in error["message"]


@pytest.mark.parametrize("command", ["emit", "listen"])
def test_a_broker_that_says_nothing_is_not_waited_for_beyond_the_time(command):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        done = run(command, "said_hello", "--transport", url, "--timeout", "500ms")
        passed = time.monotonic() - start

    assert "no connection to the broker" in line_of(done, 3)
    assert 0.5 <= passed < 9, "the connection itself would be given up after ten"


# listen


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_listener_ends_with_a_signal(number, sqlite, tmp_path):
    """With SIGTERM above."""
    with listening(sqlite, tmp_path) as listener:
        listener.send_signal(number)
        assert listener.wait() == 0

    assert listener.stderr.count("\n") == 1
    assert not any("gemstone-listen" in name for name in sqlite.queues())


def test_a_listener_ends_when_its_time_is_over(sqlite):
    done = run("listen", "--for", "200ms", *sqlite.words)
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.startswith("listening on SqliteEventTransport(")

    done = run("listen", "--count", "1", "--for", "200ms", *sqlite.words)
    assert done.code == 3
    assert done.stderr.splitlines()[1:] == ["gemstone listen: 0 of 1 events came in 0.2 s"]


def test_a_listener_ends_quietly_when_nobody_reads(sqlite, tmp_path):
    """`head` has seen enough, and no further event comes at which one would notice."""
    line = f"'{GEMSTONE}' listen {' '.join(sqlite.words)} | head -1; echo ${{PIPESTATUS[0]}}"
    pipeline = Program(["bash", "-c", line], tmp_path)
    try:
        pipeline.wait_until(lambda: "listening on" in pipeline.stderr, "that it listens")
        emit(sqlite, "said_hello")
        assert pipeline.wait() == 0
    finally:
        pipeline.kill()

    event, code = pipeline.stdout.splitlines()
    assert (json.loads(event)["name"], code) == ("said_hello", "0")
    assert pipeline.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_broker_that_goes_away_is_waited_for(tmp_path):
    with private_redis(tmp_path) as broker:
        place = Place(["--transport", f"redis://127.0.0.1:{broker.port}"])
        with listening(place, tmp_path, "--count", "2") as listener:
            emit(place, "said_hello", "to=one")
            printed(listener, 1)
            broker.kill()
            listener.wait_until(lambda: "no connection" in listener.stderr, "that it tells")
            broker.start()
            listener.wait_until(lambda: "connected" in listener.stderr, "that it is back")
            emit(place, "said_hello", "to=another")
            assert listener.wait() == 0

    assert [event["body"]["to"] for event in printed(listener, 2)] == ["one", "another"]
    _, lost, back = listener.stderr.splitlines()
    assert lost.startswith("gemstone listen: RedisEventTransport(")
    assert back.startswith("gemstone listen: RedisEventTransport(")


def test_an_event_is_shown_once_though_its_connection_is_lost_before():
    """Its redelivery need not come to the listener: its consumer knows that it has had it."""
    inbox = _Inbox()
    event = Envelope(name="a", body=b"1")
    first = Delivery(None, "q", 1, event)  # type: ignore[arg-type]
    for delivery in (first, Delivery(None, "q", 2, event)):  # type: ignore[arg-type]
        inbox.receive(delivery, None)  # type: ignore[arg-type]
    first.gone = True
    assert list(inbox.events(time.monotonic() + 0.1)) == [event]


def test_what_other_programs_publish_is_shown_as_far_as_it_goes(sqlite, tmp_path):
    transport = SqliteEventTransport(tmp_path / "events.db")
    with listening(sqlite, tmp_path, "--count", "1", "odd") as listener:
        odd = Envelope(name="odd", body=b"\xff{", time=2.0**40)
        transport.publish([odd], timeout=LIMIT)
        assert listener.wait() == 0
    transport.stop()

    (event,) = printed(listener, 1)
    assert (event["body"], event["body_is_text"]) == ("\\xff{", True)
    assert event["emitted_at"] is None


def test_a_listener_on_a_terminal_is_for_people(sqlite, tmp_path):
    transport = SqliteEventTransport(tmp_path / "events.db")
    with Terminal(GEMSTONE, "listen", *sqlite.words, columns=200) as terminal:
        terminal.expect("listening on")
        steering = Envelope(name="said\x1b[31m", body=b'{"to": 1}', emitter="greeter", key="k1")
        transport.publish([steering], timeout=LIMIT)
        terminal.expect(r"^said\S+  key k1  from greeter  20\d\d-.*" + steering.id)
        terminal.expect(r'^\{\n  "to": 1\n\}$')
        terminal.send(CTRL_C)
        assert terminal.wait() == 0
    transport.stop()

    assert "Traceback" not in terminal.text
    assert "\x1b[34m" in terminal.raw, "the key has a colour"
    assert "\x1b[31m" not in terminal.raw, "a name must not steer the terminal"
