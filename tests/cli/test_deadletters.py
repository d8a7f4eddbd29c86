"""``gemstone deadletters``: those of a broker and of an outbox, with right and wrong words."""

import json
import re
import shlex
from typing import Any

import pytest

from gemstone_sync import EventNotDelivered, MicroService, Outbox, Reject, event_handler
from gemstone_sync.cli import deadletters as command
from gemstone_sync.event import Envelope, SqliteEventTransport, deadletters
from gemstone_sync.testing import running_service
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, wait_until

from .support import line_of, run


class Shop(MicroService):
    """Packs no coffee until there is some."""

    name = "shop"

    def __init__(self, transport: SqliteEventTransport) -> None:
        super().__init__()
        self.event_transports = [transport]
        self.packed: list[Any] = []
        self.has_coffee = False

    @event_handler("orders.*")
    def pack(self, order: Any) -> None:
        if not self.has_coffee:
            raise Reject("no \x1b[31mcoffee")
        self.packed.append(order)


@pytest.fixture
def transport(tmp_path):
    return SqliteEventTransport(tmp_path / "events.db")


@pytest.fixture
def words(tmp_path):
    return ["--transport", f"sqlite:///{tmp_path}/events.db"]


@pytest.fixture
def shop(transport):
    """There are three dead letters."""
    with running_service(Shop(transport)) as service:
        for number, name in enumerate(("orders.paid", "orders.paid", "orders.sent")):
            service.emit_event(name, {"order": number}, key=f"k{number}")
        wait_until(lambda: len(deadletters.list(transport)) == 3, "dead letters")
        yield service


def test_they_are_listed_looked_at_put_back_and_thrown_away(shop, transport, words):
    done = run("deadletters", *words)
    head, *rows = done.stdout.splitlines()
    assert " ".join(head.split()) == "DIED EVENT KEY HANDLER REASON ATTEMPTS ID ERROR"
    assert (done.code, done.stderr, len(rows)) == (0, "", 3)
    assert "\x1b" not in done.stdout
    assert re.match(r"20\d\d-\S+ \S+  orders.paid  k0   Shop\.pack  rejected  0  ", rows[0])

    records = [
        json.loads(line)
        for line in run("deadletters", "list", "--json", *words).stdout.splitlines()
    ]
    assert [record["body"] for record in records] == [{"order": n} for n in range(3)]
    shown = run("deadletters", "show", records[2]["id"], *words)
    assert json.loads(shown.stdout) == records[2]
    assert (records[2]["name"], records[2]["queue"] != "") == ("orders.sent", True)

    found = run("deadletters", "--event", "*.paid", "--limit", "1", "--json", *words).stdout
    assert [json.loads(line)["id"] for line in found.splitlines()] == [records[0]["id"]]

    shop.has_coffee = True
    assert run("deadletters", "replay", records[2]["id"], *words).stdout == "replayed: 1\n"
    wait_until(lambda: shop.packed == [{"order": 2}], "the order")
    replayed = run("deadletters", "replay", "--event", "orders.paid", "--json", *words)
    assert replayed.stdout == '{"replayed":2}\n'
    wait_until(lambda: len(shop.packed) == 3, "the others")
    shop.has_coffee = False
    shop.emit_event("orders.paid", {})
    wait_until(lambda: deadletters.list(transport), "another one")
    assert run("deadletters", "purge", "--all", *words).stdout == "purged: 1\n"
    done = run("deadletters", *words)
    assert (done.code, done.stdout, done.stderr) == (0, "", "[!] There are no dead letters\n")


def test_a_body_that_is_no_json_is_text(shop, transport, words):
    transport.publish([Envelope(name="orders.bad", body=b"\xff")], timeout=LIMIT)
    wait_until(lambda: deadletters.list(transport, "orders.bad"), "the dead letter")
    (line,) = run("deadletters", "--event", "orders.bad", "--json", *words).stdout.splitlines()
    record = json.loads(line)
    assert (record["body"], record["body_is_text"], record["reason"]) == ("\\xff", True, "invalid")


def test_what_is_refused_of_an_outbox(tmp_path):
    def refuse(envelopes: Any) -> None:
        why = EventNotDelivered("nobody handles work named 'invoice'")
        raise EventNotDelivered("1", refused={envelopes[0].id: why}, unconfirmed=[])

    path = tmp_path / "outbox.db"
    outbox = Outbox(str(path))
    outbox.start(refuse)
    try:
        outbox.add([Envelope(name="invoice", body=b"1")])
        wait_until(lambda: deadletters.list(outbox), "the refusal")
    finally:
        outbox.stop(0)
    (record,) = map(json.loads, run("deadletters", "--outbox", path, "--json").stdout.splitlines())
    assert (record["name"], record["reason"], record["died_at"] is None) == (
        "invoice",
        "refused",
        False,
    )
    assert run("deadletters", "purge", record["id"], "--outbox", path).stdout == "purged: 1\n"
    assert run("deadletters", "--outbox", path).stdout == ""


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("", "which broker?"),
        ("--transport a.db", "there is no file"),
        ("--outbox a.db", "a.db"),
        ("look +", "look"),
        ("show +", "show which? Give an id"),
        ("replay +", "replay which? Give an id or --event or --all"),
        ("purge +", "purge which?"),
        ("show x --all +", "show and an id and --all"),
        ("purge x --event a +", "do not go together"),
        ("purge --event a --all +", "do not go together"),
        ("list x +", "list and an id"),
        ("--limit 0 +", "--limit"),
        ("purge --all --limit 1 +", "purge and --limit do not go together"),
        ("--event '' +", "is empty"),
        ("show '' +", "is empty"),
        ("--outbox there.db +", "--transport and --outbox do not go together"),
        ("--outbox there.db", "there.db is not an outbox"),
        ("+", "there.db is not a file of events"),
        ("--outbox text", "text is not an outbox: file is not a database"),
    ],
)
def test_wrong_words_are_one_line(words, named, tmp_path):
    (tmp_path / "text").write_text("no database")
    (tmp_path / "there.db").touch()
    own = shlex.split(words.replace("+", "--transport there.db"))
    assert named in line_of(run("deadletters", *own, cwd=tmp_path), 2)
    assert (tmp_path / "there.db").stat().st_size == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["text", "there.db"]


@pytest.mark.parametrize("action", ["show", "replay", "purge"])
def test_an_id_that_nothing_has_is_told(action, shop, words):
    assert "the id x1" in line_of(run("deadletters", action, "x1", *words), 1)


def test_what_cannot_be_put_back_is_told(shop, transport, words):
    (queue,) = {entry.queue for entry in deadletters.list(transport)}
    with transport.link() as link:
        shop.stop()
        link.remove(queue)
    assert "the others are still there" in line_of(run("deadletters", "replay", "--all", *words), 1)


def test_a_pattern_that_is_none_is_told(shop, words):
    assert "a*b" in line_of(run("deadletters", "--event", "a*b", *words), 2)


def test_a_list_that_is_cut_says_so(shop, words, monkeypatch):
    monkeypatch.setattr(command, "_MOST", 2)
    done = run("deadletters", *words)
    assert (len(done.stdout.splitlines()), done.stderr) == (
        3,
        "[!] Only the first 2: give --limit for more\n",
    )
    assert run("deadletters", "--limit", "2", *words).stderr == ""


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_is_away_is_one_line(scheme):
    url = f"{scheme}://:secret@127.0.0.1:{free_port()}"
    assert "secret" not in line_of(run("deadletters", "--transport", url), 3)
