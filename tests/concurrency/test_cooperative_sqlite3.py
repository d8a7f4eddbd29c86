"""In a patched process a call that waits for a locked SQLite database lets the others run."""

import sqlite3
import sys
from contextlib import closing

import gevent
import pytest
from gevent import monkey
from gevent.event import Event
from gevent.threadpool import ThreadPool

from tests.support.waiting import LIMIT, gather, wait_until

#: Seconds that no test may come to: who waits for them in vain fails.
FOREVER = 2 * LIMIT


@pytest.fixture(params=["delete", "wal"])
def path(request, tmp_path):
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE bought (n int)")
    return path


def connect(path, **options):
    return closing(sqlite3.connect(path, **{"timeout": FOREVER, **options}))


def bought(path):
    with connect(path) as connection:
        return sorted(n for (n,) in connection.execute("SELECT n FROM bought"))


def test_two_calls_that_write_over_a_pause(path):
    inside = []

    def buy(n):
        with connect(path, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            inside.append(n)
            gevent.sleep(0.05)
            assert inside[-1] == n
            connection.execute("INSERT INTO bought VALUES (?)", (n,))
            connection.execute("COMMIT")

    gather([lambda n=n: buy(n) for n in range(5)])

    assert bought(path) == [0, 1, 2, 3, 4]


def insert(connection):
    connection.execute("INSERT INTO bought VALUES (2)")
    connection.commit()


def insert_with(connection):
    with connection:
        connection.execute("INSERT INTO bought VALUES (2)")


def insert_by_cursor(connection):
    class Mine(sqlite3.Cursor):
        """As Django's."""

    cursor = connection.cursor(Mine)
    assert isinstance(cursor, Mine)
    cursor.execute("INSERT INTO bought VALUES (2)")
    connection.commit()


def insert_many(connection):
    cursor = connection.executemany("INSERT INTO bought VALUES (?)", ([2] for _ in range(3)))
    assert cursor.rowcount == 3
    connection.commit()


def insert_by_script(connection):
    connection.executescript("INSERT INTO bought VALUES (2); INSERT INTO bought VALUES (2)")


def insert_in_a_deferred_transaction(connection):
    connection.execute("SAVEPOINT mine")
    connection.execute("INSERT INTO bought VALUES (2)")
    connection.execute("RELEASE mine")


MODES = {"by default": {}, "autocommit": {"isolation_level": None}}
if sys.version_info >= (3, 12):
    MODES["autocommit=True"] = {"autocommit": True}
    MODES["autocommit=False"] = {"autocommit": False}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "write",
    [
        insert,
        insert_with,
        insert_by_cursor,
        insert_many,
        insert_by_script,
        insert_in_a_deferred_transaction,
    ],
    ids=lambda write: write.__name__,
)
def test_whatever_writes_waits_while_others_run(path, write, mode):
    """All of it, once; the one that has the lock gets its turn to give it up."""
    if write is insert_by_script and mode == "autocommit=False":
        pytest.skip("a script within a transaction can neither be tried again nor put off")
    with connect(path, isolation_level=None) as holder, connect(path, **MODES[mode]) as connection:
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("INSERT INTO bought VALUES (1)")
        waiting = gevent.spawn(write, connection)
        gevent.sleep(0.05)
        assert not waiting.ready()
        holder.execute("COMMIT")
        waiting.get(timeout=LIMIT)
        connection.commit()
    twos = {insert_many: 3, insert_by_script: 2}.get(write, 1)
    assert bought(path) == [1] + [2] * twos


@pytest.mark.parametrize("path", ["delete"], indirect=True)
def test_a_commit_waits_for_who_reads(path):
    with connect(path, isolation_level=None) as reader, connect(path) as connection:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM bought").fetchall()
        connection.execute("INSERT INTO bought VALUES (1)")
        waiting = gevent.spawn(connection.commit)
        gevent.sleep(0.05)
        assert not waiting.ready()
        reader.execute("COMMIT")
        waiting.get(timeout=LIMIT)
    assert bought(path) == [1]


def test_two_that_have_read_and_want_to_write(path):
    """One is refused at once, as by SQLite itself: it could wait for ever."""
    have_read = Event()

    def read_and_write(n):
        with connect(path, isolation_level=None) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM bought").fetchall()
            readers.append(n)
            have_read.wait()
            try:
                connection.execute("INSERT INTO bought VALUES (?)", (n,))
                gevent.sleep(0.05)
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                connection.execute("ROLLBACK")
                return str(error)
            return "bought"

    readers: list[int] = []
    both = [gevent.spawn(read_and_write, n) for n in (1, 2)]
    wait_until(lambda: len(readers) == 2, "both have read")
    have_read.set()
    told = sorted(one.get(timeout=LIMIT) for one in both)
    assert told == ["bought", "database is locked"]


def test_a_lock_that_is_not_given_up(path):
    with (
        connect(path, isolation_level=None) as holder,
        connect(path, timeout=0.05) as connection,
    ):
        holder.execute("BEGIN IMMEDIATE")
        turns = []
        others = gevent.spawn(lambda: [turns.append(gevent.sleep(0.001)) for _ in range(1000)])
        for attempt in range(20):
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                connection.execute("INSERT INTO bought VALUES (1)")
            if attempt and len(turns) > 2:  # the process may have had no turn itself
                break
        others.kill()
        assert len(turns) > 2
        holder.execute("COMMIT")
        connection.execute("INSERT INTO bought VALUES (1)")
        connection.commit()


def test_a_deadline_ends_the_wait(path):
    with connect(path, isolation_level=None) as holder, connect(path) as connection:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
            connection.execute("INSERT INTO bought VALUES (1)")


def test_the_time_out_is_the_programs(path):
    with connect(path) as connection:
        asked = connection.execute("PRAGMA busy_timeout").fetchall()
        assert asked == [(1000 * FOREVER,)]
        assert connection.execute("pragma busy_timeout = 20;").fetchall() == [(20,)]
        with connect(path, isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                connection.execute("INSERT INTO bought VALUES (1)")
        connection.executescript("PRAGMA busy_timeout = 30; SELECT 1")
        assert connection.execute("PRAGMA busy_timeout").fetchall() == [(30,)]


def test_in_a_native_thread_it_waits_there(path):
    """Without a hub of the thread's own."""

    def write():
        with connect(path) as connection:
            insert(connection)
        from gevent._hub_local import get_hub_if_exists

        return get_hub_if_exists()

    with connect(path, isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        writing = ThreadPool(1).spawn(write)
        gevent.sleep(0.05)
        holder.execute("COMMIT")
        assert writing.get(timeout=LIMIT) is None
    assert bought(path) == [2]


class Mine(sqlite3.Connection):
    """As programs have them, with arguments and methods of their own."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.seen: list[str] = []

    def execute(self, *args):
        self.seen.append(args[0])
        return super().execute(*args)


def test_connections_of_the_programs_own(path):
    with connect(path, factory=Mine) as connection:
        assert isinstance(connection, Mine)
        assert connection.execute("SELECT 7").fetchone() == (7,)
        assert connection.seen == ["SELECT 7"]
    with closing(sqlite3.connect(path, 5.0, 0, None, True, Mine)) as connection:
        assert isinstance(connection, Mine)
        assert connection.isolation_level is None
    with closing(sqlite3.connect(path, factory=lambda *args, **more: Mine(*args, **more))) as mine:
        assert type(mine) is Mine, "made by a function, it waits as it does elsewhere"


def test_who_waits_for_nothing_has_sqlite_itself(path):
    with connect(path, timeout=0) as connection:
        assert type(connection) is sqlite3.Connection
    assert (
        sqlite3.connect is sqlite3.dbapi2.connect is not monkey.get_original("sqlite3", "connect")
    )
