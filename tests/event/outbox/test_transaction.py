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
from tests.event.outbox.support import Broker, events, ids_of, shop, started, stored_in
from tests.support.waiting import LIMIT, wait_until


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    shop(tmp_path).close()
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(tmp_path, engine):
    return Outbox(str(tmp_path / "events.db"), databases=[engine])


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@contextlib.contextmanager
def sqlite3_transaction(engine):
    with contextlib.closing(sqlite3.connect(engine.url.database)) as connection, connection:
        yield connection, lambda: connection.execute("INSERT INTO orders VALUES (1)")


@contextlib.contextmanager
def sqlite3_explicit(engine):
    """No implicit BEGIN: the user says it."""
    connection = sqlite3.connect(engine.url.database, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("BEGIN")
        try:
            yield connection, lambda: connection.execute("INSERT INTO orders VALUES (1)")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@contextlib.contextmanager
def sqlite3_odd(engine):
    """Rows are dicts and texts are bytes, as the user likes it."""
    with contextlib.closing(sqlite3.connect(engine.url.database)) as connection, connection:
        connection.row_factory = lambda cursor, row: {"row": row}
        connection.text_factory = bytes
        yield connection, lambda: connection.execute("INSERT INTO orders VALUES (1)")


@contextlib.contextmanager
def core_connection(engine):
    with engine.begin() as connection:
        yield connection, lambda: connection.exec_driver_sql("INSERT INTO orders VALUES (1)")


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


KINDS = [
    sqlite3_transaction,
    sqlite3_explicit,
    sqlite3_odd,
    core_connection,
    orm_session,
    orm_scoped,
]
every_kind = pytest.mark.parametrize("transaction", KINDS)
#: Whether the user's own statement comes before the event or after it.
either_order = pytest.mark.parametrize("first", ["order", "event"])


def enter(outbox, connection):
    with outbox.transaction(connection):
        pass


def store(outbox, connection, envelopes):
    """Store events in a block of their own; nothing is committed."""
    with outbox.transaction(connection) as transaction:
        transaction.store(envelopes)


def orders_in(engine):
    with contextlib.closing(sqlite3.connect(engine.url.database)) as connection:
        return connection.execute("SELECT count(*) FROM orders").fetchone()[0]


@every_kind
@either_order
def test_what_was_committed_is_sent(outbox, broker, engine, transaction, first):
    sent = events(3)
    with started(outbox, broker):
        with transaction(engine) as (connection, insert), outbox.transaction(connection):
            if first == "order":
                insert()
            outbox.current_transaction().store(sent[:2])
            outbox.current_transaction().store(sent[2:])
            if first == "event":
                insert()
            gevent.sleep(0.1)
            assert broker.ids == []
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
    assert broker.ids == ids_of(sent)
    assert orders_in(engine) == 1


@every_kind
@either_order
def test_what_was_rolled_back_is_never_sent(outbox, broker, engine, transaction, first):
    def fail():
        with transaction(engine) as (connection, insert), outbox.transaction(connection):
            if first == "order":
                insert()
            outbox.current_transaction().store(events(3))
            if first == "event":
                insert()
            raise ZeroDivisionError

    with started(outbox, broker):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert orders_in(engine) == 0
        # What comes later overtakes nothing: were it there, it would be sent before.
        later = events(1)
        with transaction(engine) as (connection, _), outbox.transaction(connection):
            outbox.current_transaction().store(later)
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
    assert broker.ids == ids_of(later)


def test_the_transaction_stays_open_after_the_block(outbox, broker, engine, tmp_path):
    with started(outbox, broker), contextlib.closing(shop(tmp_path)) as connection:
        for end in (connection.rollback, connection.commit):
            with outbox.transaction(connection) as transaction:
                assert not connection.in_transaction
                transaction.store(events(1))
            assert connection.in_transaction
            end()
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
        assert len(broker.ids) == 1


def test_a_savepoint_that_is_rolled_back_takes_its_events_with_it(outbox, broker, tmp_path):
    sent = events(3)
    with started(outbox, broker), contextlib.closing(shop(tmp_path)) as connection:
        with connection, outbox.transaction(connection) as transaction:
            transaction.store(sent[:1])
            connection.execute("SAVEPOINT inner")
            transaction.store(sent[1:2])
            connection.execute("ROLLBACK TO inner")
            transaction.store(sent[2:])
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
    assert broker.ids == ids_of([sent[0], sent[2]])


def test_a_nested_transaction_of_sqlalchemy_too(outbox, broker, engine):
    sent = events(3)
    with started(outbox, broker):
        with Session(engine) as session, session.begin(), outbox.transaction(session) as outer:
            session.add(Order(id=1))
            outer.store(sent[:1])
            with contextlib.suppress(ZeroDivisionError), session.begin_nested():
                session.add(Order(id=2))
                outer.store(sent[1:2])
                raise ZeroDivisionError
            outer.store(sent[2:])
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
    assert broker.ids == ids_of([sent[0], sent[2]])
    assert orders_in(engine) == 1


def test_blocks_of_two_databases_nest(tmp_path, broker):
    outbox = Outbox(str(tmp_path / "events.db"))
    first, second, third = events(1), events(1), events(1)
    with (
        contextlib.closing(shop(tmp_path, "a.db")) as a,
        contextlib.closing(shop(tmp_path, "b.db")) as b,
    ):
        with outbox.transaction(a):
            outbox.current_transaction().store(first)
            with outbox.transaction(b):
                outbox.current_transaction().store(second)
            outbox.current_transaction().store(third)
        a.rollback()
        b.commit()
    with started(outbox, broker):
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
    assert broker.ids == ids_of(second)
    assert outbox.current_transaction() is None


def test_two_outboxes_in_one_process_do_not_take_each_others_events(tmp_path):
    one = Outbox(str(tmp_path / "one.db"))
    two = Outbox(str(tmp_path / "two.db"))
    with contextlib.closing(shop(tmp_path)) as connection, one.transaction(connection) as of_one:
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

    with contextlib.closing(shop(tmp_path)) as connection:
        with outbox.transaction(connection) as transaction:
            greenlet = spawn(look)
            wait_until(lambda: seen, "the greenlet")
        over.set()
        greenlet.join(5)
    assert seen == [transaction, None]


def test_a_database_nobody_listed_is_found_by_others(tmp_path, broker):
    sent = events(1)
    first = Outbox(str(tmp_path / "events.db"))
    with contextlib.closing(shop(tmp_path)) as connection, connection:
        store(first, connection, sent)
    second = Outbox(str(tmp_path / "events.db"))
    assert second.pending() == 1
    with started(second, broker):
        assert second.drain(5)
    assert broker.ids == ids_of(sent)


def test_a_started_outbox_takes_up_a_database_it_did_not_know(tmp_path, broker):
    outbox = Outbox(str(tmp_path / "events.db"))
    with started(outbox, broker), contextlib.closing(shop(tmp_path)) as connection:
        with connection, outbox.transaction(connection) as transaction:
            transaction.store(events(2))
        wait_until(lambda: len(broker.ids) == 2, "events", 3)


def test_the_table_is_made_in_a_transaction_that_already_writes(tmp_path):
    """A second connection could not make it then: it would wait for the first."""
    outbox = Outbox(str(tmp_path / "events.db"))
    with contextlib.closing(shop(tmp_path)) as connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        with outbox.transaction(connection) as transaction:
            transaction.store(events(1))
        connection.rollback()
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [("orders",)]
        with connection:
            store(outbox, connection, events(1))
    assert outbox.pending() == 1


def test_the_outbox_own_file_may_be_the_database(tmp_path, broker):
    outbox = Outbox(str(tmp_path / "shop.db"))
    sent = events(2)
    outbox.add(sent[:1])
    with started(outbox, broker), contextlib.closing(shop(tmp_path)) as connection:
        with connection, outbox.transaction(connection) as transaction:
            transaction.store(sent[1:])
        assert outbox.drain(5)
    assert broker.ids == ids_of(sent)


def test_a_listed_database_that_is_not_there_yet_is_not_made(tmp_path, broker):
    outbox = Outbox(str(tmp_path / "events.db"), databases=[str(tmp_path / "shop.db")])
    with started(outbox, broker):
        outbox.add(events(1))
        assert outbox.drain(5)
        assert not (tmp_path / "shop.db").exists()
        with contextlib.closing(shop(tmp_path)) as connection, connection:
            store(outbox, connection, events(1))
        wait_until(lambda: len(broker.ids) == 2, "events")


# What is refused


def test_an_engine_that_is_not_listed_is_refused(tmp_path, engine):
    outbox = Outbox(str(tmp_path / "events.db"))
    with engine.connect() as connection, Session(engine) as session:
        for given in (connection, session):
            with pytest.raises(ServiceConfigurationError, match="list the engine"):
                enter(outbox, given)


def test_an_engine_may_be_listed_by_its_url(tmp_path, engine, broker):
    for url in (engine.url, str(engine.url), engine.url.database):
        outbox = Outbox(str(tmp_path / "events.db"), databases=[url])
        with engine.begin() as connection, outbox.transaction(connection) as transaction:
            transaction.store(events(1))
        with started(outbox, broker):
            assert outbox.drain(5)
    assert len(broker.ids) == 3


def test_a_database_in_memory_is_refused(outbox):
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(ServiceConfigurationError, match="in memory"),
    ):
        enter(outbox, connection)


@pytest.mark.parametrize("given", [None, "shop.db", 3])
def test_what_is_no_connection_is_refused(outbox, given):
    with pytest.raises(ServiceConfigurationError, match="takes a sqlite3 connection"):
        enter(outbox, given)


def test_an_unbound_session_is_refused(outbox):
    with pytest.raises(ServiceConfigurationError, match="several engines or none"):
        enter(outbox, Session())


def test_a_connection_that_commits_by_itself_is_refused(outbox, engine, tmp_path):
    """The event could not be taken back, so it must not be stored."""
    by_itself = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    with (
        contextlib.closing(by_itself),
        pytest.raises(ServiceConfigurationError, match="autocommit"),
    ):
        store(outbox, by_itself, events(1))
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with (
        autocommit.connect() as connection,
        pytest.raises(ServiceConfigurationError, match="autocommit"),
    ):
        store(outbox, connection, events(1))
    assert outbox.pending() == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no autocommit before 3.12")
def test_the_autocommit_of_newer_pythons_is_understood(outbox, broker, tmp_path):
    shop(tmp_path).close()
    by_itself = sqlite3.connect(tmp_path / "shop.db", autocommit=True)
    with (
        contextlib.closing(by_itself),
        pytest.raises(ServiceConfigurationError, match="autocommit"),
    ):
        store(outbox, by_itself, events(1))
    always = sqlite3.connect(tmp_path / "shop.db", autocommit=False)
    with contextlib.closing(always), started(outbox, broker):
        with outbox.transaction(always) as transaction:
            transaction.store(events(1))
        always.rollback()
        with outbox.transaction(always) as transaction:
            transaction.store(events(1))
        always.commit()
        wait_until(lambda: broker.ids, "events")
        assert outbox.drain(5)
    assert len(broker.ids) == 1


def test_a_database_that_refuses_is_an_event_that_is_not_delivered(outbox, tmp_path):
    with (
        contextlib.closing(shop(tmp_path)) as writer,
        contextlib.closing(sqlite3.connect(tmp_path / "shop.db", timeout=0.01)) as connection,
    ):
        writer.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(EventNotDelivered, match=r"not stored.*locked"):
            store(outbox, connection, events(1))
    shop(tmp_path).execute("CREATE TABLE gemstone_outbox (something_else TEXT)").close()
    broken = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    with (
        broken.connect() as connection,
        pytest.raises(EventNotDelivered, match=r"not stored.*column"),
    ):
        store(outbox, connection, events(1))
    broken.dispose()


def test_transactions_that_overlap_lose_nothing(outbox, broker, tmp_path):
    """Each commits when it likes, while the relay sends and deletes."""
    sent = []
    with started(outbox, broker):
        for _ in range(30):
            with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
                envelopes = events(2)
                with outbox.transaction(connection) as transaction:
                    transaction.store(envelopes)
                    gevent.sleep(0.005)
                connection.commit()
                sent += ids_of(envelopes)
        wait_until(lambda: len(broker.ids) >= 60, "events")
        assert outbox.drain(5)
    assert broker.ids == sent
    assert stored_in(tmp_path / "shop.db") == 0
