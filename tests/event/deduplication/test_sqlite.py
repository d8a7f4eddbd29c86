"""SqliteProcessedEvents: marks in the user's own transaction, and files that cannot be used."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.event.deduplication import (
    Claim,
    ProcessedEventsFault,
    SqliteProcessedEvents,
)
from tests.support.programs import program
from tests.support.waiting import LIMIT, gather, wait_until

from .conftest import Place


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "handled.db")


def rows(path: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM gemstone_processed").fetchone()[0])


# The user's own transaction


def shop(path: str, **options: Any) -> sqlite3.Connection:
    connection = sqlite3.connect(path, **options)
    connection.execute("CREATE TABLE IF NOT EXISTS payments (id TEXT)")
    connection.commit()
    return connection


def payments(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [id_ for (id_,) in connection.execute("SELECT id FROM payments")]


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("first", ["effect", "mark"])
def test_an_effect_and_its_mark_are_committed_together(
    sqlite: Place, path: str, claimed: bool, first: str
) -> None:
    store = sqlite.store()
    if claimed:
        store.claim("e", "a", 60)
    with closing(shop(path)) as connection:
        for step in ("effect", "mark") if first == "effect" else ("mark", "effect"):
            if step == "effect":
                connection.execute("INSERT INTO payments VALUES ('p1')")
            else:
                store.record(connection, "e")
        connection.commit()

    assert store.claim("e", "b", 60) is Claim.DONE
    assert payments(path) == ["p1"]


def test_an_effect_and_its_mark_are_rolled_back_together(sqlite: Place, path: str) -> None:
    store = sqlite.store()
    store.claim("e", "a", 60)
    with closing(shop(path)) as connection:
        connection.execute("INSERT INTO payments VALUES ('p1')")
        store.record(connection, "e")
        connection.rollback()

    assert payments(path) == []
    assert store.claim("e", "b", 60) is Claim.BUSY
    store.release("e", "a")
    assert store.claim("e", "b", 60) is Claim.OURS


PAYER = """
import os, sqlite3, signal, sys
from gemstone_sync.event.deduplication import SqliteProcessedEvents
store = SqliteProcessedEvents({path!r})
store.claim("e", "payer", 0.01)
connection = sqlite3.connect({path!r})
connection.execute("INSERT INTO payments VALUES ('p1')")
store.record(connection, "e")
if {commits}:
    connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("commits", [False, True])
def test_a_process_that_is_killed_has_done_both_or_neither(
    sqlite: Place, path: str, tmp_path: Path, commits: bool
) -> None:
    shop(path).close()
    with program(PAYER.format(path=path, commits=commits), tmp_path) as payer:
        assert payer.wait() == -signal.SIGKILL, payer.stderr

    assert payments(path) == (["p1"] if commits else [])
    store, expected = sqlite.store(), Claim.DONE if commits else Claim.OURS
    wait_until(lambda: store.claim("e", "heir", 60) is expected, "the end of the lease")


def test_a_claim_waits_for_the_users_transaction(sqlite: Place, path: str) -> None:
    store = sqlite.store()
    with closing(shop(path)) as connection:
        connection.execute("INSERT INTO payments VALUES ('p1')")
        store.record(connection, "e")
        claim = gevent.spawn(store.claim, "e", "b", 60)
        gevent.sleep(0.05)
        assert not claim.ready()
        connection.commit()

        assert claim.get(timeout=LIMIT) is Claim.DONE


def test_a_connection_without_a_transaction_is_refused(sqlite: Place, path: str) -> None:
    store = sqlite.store()
    with closing(shop(path, isolation_level=None)) as connection:
        with pytest.raises(ValueError, match="BEGIN"):
            store.record(connection, "e")
        assert store.claim("e", "a", 60) is Claim.OURS

        connection.execute("BEGIN")
        store.record(connection, "e")
        connection.execute("COMMIT")
    assert store.claim("e", "a", 60) is Claim.DONE


@pytest.mark.parametrize("other", ["other.db", ":memory:"])
def test_a_connection_to_another_file_is_refused(sqlite: Place, tmp_path: Path, other: str) -> None:
    store = sqlite.store()
    store.claim("e", "a", 60)
    name = other if other == ":memory:" else str(tmp_path / other)
    with closing(shop(name)) as connection, pytest.raises(ValueError, match="one file"):
        store.record(connection, "e")


# The file


def test_the_file_does_not_grow_for_ever(sqlite: Place, path: str) -> None:
    store = sqlite.store(window=0.001)
    for number in range(500):
        store.claim(str(number), "a", 60)
        store.done(str(number), "a")

    assert rows(path) < 150


def test_many_greenlets_share_transactions(sqlite: Place, path: str) -> None:
    store = sqlite.store()

    def handle(key: str) -> Claim:
        claim = store.claim(key, "a", 60)
        store.done(key, "a")
        return claim

    claims = gather([lambda n=n: handle(str(n)) for n in range(1000)])

    assert set(claims) == {Claim.OURS}
    assert rows(path) == 1000


def test_a_locked_file_holds_up_nobody_else(path: str) -> None:
    store, hasty = (
        SqliteProcessedEvents(path, timeout=LIMIT),
        SqliteProcessedEvents(path, timeout=0.2),
    )
    store.claim("e", "a", 60)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        claims = [gevent.spawn(store.claim, str(n), "a", 60) for n in range(3)]
        for _ in range(100):
            gevent.sleep(0.001)
        # A hub that is held up turns when the time-out is over.
        assert not any(claim.ready() for claim in claims)
        with pytest.raises(ProcessedEventsFault, match=r"handled\.db.*another program writes"):
            hasty.claim("3", "a", 60)
        other.execute("ROLLBACK")

    assert [claim.get(timeout=LIMIT) for claim in claims] == [Claim.OURS] * 3
    assert hasty.claim("3", "b", 60) is Claim.OURS
    store.close()
    hasty.close()


def test_a_handlers_timeout_is_not_mistaken_for_the_stores(path: str) -> None:
    store = SqliteProcessedEvents(path, timeout=LIMIT)
    store.claim("e", "a", 60)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            store.claim("f", "a", 60)
        other.execute("ROLLBACK")
    store.close()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    store = SqliteProcessedEvents(tmp_path / "nowhere" / "handled.db")

    with pytest.raises(OSError, match=r"nowhere.*unable to open") as caught:
        store.claim("e", "a", 60)

    assert isinstance(caught.value, ProcessedEventsFault)
    store.close()


def test_a_file_that_is_no_database_and_then_is_one(path: str) -> None:
    Path(path).write_bytes(b"all sorts of things " * 1000)
    store = SqliteProcessedEvents(path)
    with pytest.raises(ProcessedEventsFault, match="not a database"):
        store.claim("e", "a", 60)

    Path(path).unlink()
    assert store.claim("e", "a", 60) is Claim.OURS
    store.close()


FILLER = """
import resource, signal
from gemstone_sync.concurrency import patch; patch()
from gemstone_sync.event.deduplication import *
store = SqliteProcessedEvents({path!r})
store.done("first", "a")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
try:
    for number in range(10_000):
        store.done(f"{{number}} {{'x' * 1000}}", "a")
except OSError as error:
    assert isinstance(error, ProcessedEventsFault)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
assert store.claim("first", "b", 60) is Claim.DONE
assert store.claim(f"{{number}} {{'x' * 1000}}", "b", 60) is Claim.OURS
store.close()
print(number)
"""


def test_a_full_disk(path: str, run_python: Any) -> None:
    ended = run_python(FILLER.format(path=path))

    assert (ended.returncode, ended.stderr) == (0, "")
    assert 0 < int(ended.stdout) < 1000


PLAIN = """
import sys, threading
from gemstone_sync.event.deduplication import *
store = SqliteProcessedEvents("handled.db")
claims = []
def claim(number):
    for key in range(50):
        claims.append(store.claim(str(key), str(number), 60))
threads = [threading.Thread(target=claim, args=[n]) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert claims.count(Claim.OURS) == 50 and len(claims) == 200, claims
store.close()
assert "gevent.monkey" not in sys.modules or not sys.modules["gevent.monkey"].saved
"""


def test_a_plain_program_with_threads(run_python: Any) -> None:
    ended = run_python(PLAIN)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("path", ["", ":memory:", b"handled.db"])
def test_what_is_no_file(path: Any) -> None:
    with pytest.raises(ServiceConfigurationError):
        SqliteProcessedEvents(path)
