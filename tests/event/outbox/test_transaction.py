"""Events in the user's own transaction: sent if and only if that commits."""

import contextlib
import sqlite3
import sys

import gevent
import pytest
import sqlalchemy as sa
from gevent.event import Event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session
from sqlalchemy.orm import sessionmaker as make_sessions

from gemstone_sync.concurrency import spawn
from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event.outbox import Outbox
from tests.support.sqlite import execute
from tests.support.waiting import LIMIT, wait_until

from .support import events, ids_of, sending, sent_from, shop, stored_in

INSERT = "INSERT INTO orders VALUES (1)"


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    with shop(tmp_path):
        pass
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(tmp_path, engine):
    return Outbox(str(tmp_path / "events.db"), databases=[engine])


@pytest.fixture
def unlisted(tmp_path):
    """One that is not told of any database."""
    return Outbox(str(tmp_path / "events.db"))


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@contextlib.contextmanager
def sqlite3_transaction(engine):
    with contextlib.closing(sqlite3.connect(engine.url.database)) as connection, connection:
        yield connection, lambda: connection.execute(INSERT)


@contextlib.contextmanager
def sqlite3_explicit(engine):
    """No implicit BEGIN: the user says it."""
    connection = sqlite3.connect(engine.url.database, isolation_level=None)
    with contextlib.closing(connection), connection:
        connection.execute("BEGIN")
        yield connection, lambda: connection.execute(INSERT)


@contextlib.contextmanager
def sqlite3_odd(engine):
    """Rows are dicts and texts are bytes, as the user likes it."""
    with sqlite3_transaction(engine) as (connection, insert):
        connection.row_factory = lambda cursor, row: {"row": row}
        connection.text_factory = bytes
        yield connection, insert


@contextlib.contextmanager
def core_connection(engine):
    with engine.begin() as connection:
        yield connection, lambda: connection.exec_driver_sql(INSERT)


@contextlib.contextmanager
def orm_session(engine):
    with Session(engine) as session, session.begin():
        yield session, lambda: session.add(Order(id=1))


@contextlib.contextmanager
def orm_scoped(engine):
    session = scoped_session(make_sessions(engine))
    try:
        with session.begin():
            yield session, lambda: session.add(Order(id=1))
    finally:
        session.remove()


def store(outbox, connection, envelopes):
    """Store events in a block of their own; nothing is committed."""
    with outbox.transaction(connection) as transaction:
        transaction.store(envelopes)


@pytest.mark.parametrize(
    "transaction",
    [sqlite3_transaction, sqlite3_explicit, sqlite3_odd, core_connection, orm_session, orm_scoped],
)
@pytest.mark.parametrize("first", ["order", "event"])
def test_what_was_committed_is_sent_and_what_was_rolled_back_is_not(
    outbox, broker, engine, transaction, first
):
    def order(envelopes, fails=False):
        with transaction(engine) as (connection, insert), outbox.transaction(connection):
            if first == "order":
                insert()
            outbox.current_transaction().store(envelopes[:2])
            outbox.current_transaction().store(envelopes[2:])
            if first == "event":
                insert()
            gevent.sleep(0.05)
            assert broker.ids == []
            if fails:
                raise ZeroDivisionError

    sent = events(3)
    with sending(outbox, broker):
        with pytest.raises(ZeroDivisionError):
            order(events(3), fails=True)
        # What comes later overtakes nothing: were it there, it would be sent before.
        order(sent)
    assert broker.ids == ids_of(sent)
    assert execute(engine.url.database, "SELECT count(*) FROM orders") == [(1,)]


def test_the_transaction_stays_open_after_the_block(outbox, broker, tmp_path):
    with sending(outbox, broker), shop(tmp_path) as connection:
        for end in (connection.rollback, connection.commit):
            with outbox.transaction(connection) as transaction:
                assert not connection.in_transaction
                transaction.store(events(1))
            assert connection.in_transaction
            end()
    assert len(broker.ids) == 1


@pytest.mark.parametrize("kind", ["sqlite3", "SQLAlchemy"])
def test_a_savepoint_that_is_rolled_back_takes_its_events_with_it(outbox, engine, tmp_path, kind):
    sent = events(3)
    if kind == "sqlite3":
        with shop(tmp_path) as connection, connection, outbox.transaction(connection) as outer:
            outer.store(sent[:1])
            connection.execute("SAVEPOINT inner")
            outer.store(sent[1:2])
            connection.execute("ROLLBACK TO inner")
            outer.store(sent[2:])
    else:
        with Session(engine) as session, session.begin(), outbox.transaction(session) as outer:
            outer.store(sent[:1])
            with contextlib.suppress(ZeroDivisionError), session.begin_nested():
                session.add(Order(id=2))
                outer.store(sent[1:2])
                raise ZeroDivisionError
            outer.store(sent[2:])
    assert sent_from(outbox) == ids_of([sent[0], sent[2]])


def test_blocks_of_two_databases_nest(tmp_path, unlisted):
    first, second, third = events(1), events(1), events(1)
    with shop(tmp_path, "a.db") as a, shop(tmp_path, "b.db") as b:
        with unlisted.transaction(a):
            unlisted.current_transaction().store(first)
            with unlisted.transaction(b):
                unlisted.current_transaction().store(second)
            unlisted.current_transaction().store(third)
        a.rollback()
        b.commit()
    assert sent_from(unlisted) == ids_of(second)
    assert unlisted.current_transaction() is None


def test_two_outboxes_in_one_process_do_not_take_each_others_events(tmp_path):
    one = Outbox(str(tmp_path / "one.db"))
    two = Outbox(str(tmp_path / "two.db"))
    with shop(tmp_path) as connection, one.transaction(connection) as of_one:
        assert two.current_transaction() is None
        with two.transaction(connection) as of_two:
            assert one.current_transaction() is of_one
            assert two.current_transaction() is of_two


def test_a_greenlet_that_outlives_the_block_is_not_in_it(outbox, tmp_path):
    seen, over = [], Event()

    def look():
        seen.append(outbox.current_transaction())
        assert over.wait(LIMIT)
        seen.append(outbox.current_transaction())

    with shop(tmp_path) as connection:
        with outbox.transaction(connection) as transaction:
            greenlet = spawn(look)
            wait_until(lambda: seen, "the greenlet")
        over.set()
        greenlet.join(LIMIT)
    assert seen == [transaction, None]


def test_a_database_nobody_listed_is_found_by_others(tmp_path, unlisted):
    sent = events(1)
    with shop(tmp_path) as connection, connection:
        store(unlisted, connection, sent)
    other = Outbox(str(tmp_path / "events.db"))
    assert other.pending() == 1
    assert sent_from(other) == ids_of(sent)


def test_the_table_is_made_in_a_transaction_that_already_writes(tmp_path, unlisted):
    """A second connection could not make it then: it would wait for the first."""
    with shop(tmp_path) as connection:
        connection.execute(INSERT)
        store(unlisted, connection, events(1))
        connection.rollback()
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [("orders",)]
        with connection:
            store(unlisted, connection, events(1))
    assert unlisted.pending() == 1


def test_the_outbox_own_file_may_be_the_database(tmp_path):
    outbox = Outbox(str(tmp_path / "shop.db"))
    sent = events(2)
    outbox.add(sent[:1])
    with shop(tmp_path) as connection, connection:
        store(outbox, connection, sent[1:])
    assert sent_from(outbox) == ids_of(sent)


def test_a_listed_database_that_is_not_there_yet_is_not_made(tmp_path, broker):
    outbox = Outbox(str(tmp_path / "events.db"), databases=[str(tmp_path / "shop.db")])
    with sending(outbox, broker):
        outbox.add(events(1))
        assert outbox.drain(LIMIT)
        assert not (tmp_path / "shop.db").exists()
        # One that is not listed is taken up as well.
        for name in ("shop.db", "other.db"):
            with shop(tmp_path, name) as connection, connection:
                store(outbox, connection, events(1))
        wait_until(lambda: len(broker.ids) == 3, "events")


def test_an_engine_may_be_listed_by_its_url(tmp_path, engine):
    for url in (engine.url, str(engine.url), engine.url.database):
        outbox = Outbox(str(tmp_path / "events.db"), databases=[url])
        with engine.begin() as connection:
            store(outbox, connection, events(1))
        assert len(sent_from(outbox)) == 1


def test_transactions_that_overlap_lose_nothing(outbox, broker, tmp_path):
    """Each commits when it likes, while the relay sends and deletes."""
    sent = []
    with sending(outbox, broker):
        for _ in range(30):
            with shop(tmp_path) as connection:
                envelopes = events(2)
                with outbox.transaction(connection) as transaction:
                    transaction.store(envelopes)
                    gevent.sleep(0.005)
                connection.commit()
                sent += ids_of(envelopes)
    assert broker.ids == sent
    assert stored_in(tmp_path / "shop.db") == 0


def refused(outbox, connection, match):
    with pytest.raises(ServiceConfigurationError, match=match):
        store(outbox, connection, events(1))


def test_an_engine_that_is_not_listed_is_refused(unlisted, engine):
    with engine.connect() as connection, Session(engine) as session:
        for given in (connection, session):
            refused(unlisted, given, "list the engine")


def test_what_is_no_connection_to_a_file_is_refused(outbox):
    for given in (None, "shop.db", 3):
        refused(outbox, given, "takes a sqlite3 connection")
    refused(outbox, Session(), "several engines or none")
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        refused(outbox, connection, "in memory")


def test_a_connection_that_commits_by_itself_is_refused(outbox, engine):
    """The event could not be taken back, so it must not be stored."""
    by_itself = sqlite3.connect(engine.url.database, isolation_level=None)
    with contextlib.closing(by_itself):
        refused(outbox, by_itself, "autocommit")
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        refused(outbox, connection, "autocommit")
    assert outbox.pending() == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no autocommit before 3.12")
def test_the_autocommit_of_newer_pythons_is_understood(outbox, engine):
    by_itself = sqlite3.connect(engine.url.database, autocommit=True)
    with contextlib.closing(by_itself):
        refused(outbox, by_itself, "autocommit")
    with contextlib.closing(sqlite3.connect(engine.url.database, autocommit=False)) as always:
        for end in (always.rollback, always.commit):
            store(outbox, always, events(1))
            end()
    assert len(sent_from(outbox)) == 1


def test_a_database_that_refuses_is_an_event_that_is_not_delivered(outbox, engine, tmp_path):
    with (
        shop(tmp_path) as writer,
        contextlib.closing(sqlite3.connect(engine.url.database, timeout=0.01)) as connection,
    ):
        writer.execute(INSERT)
        with pytest.raises(EventNotDelivered, match=r"not stored.*locked"):
            store(outbox, connection, events(1))
    execute(engine.url.database, "CREATE TABLE gemstone_outbox (something_else TEXT)")
    broken = sa.create_engine(engine.url)
    with (
        broken.connect() as connection,
        pytest.raises(EventNotDelivered, match=r"not stored.*column"),
    ):
        store(outbox, connection, events(1))
    broken.dispose()
