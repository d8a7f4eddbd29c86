"""A service that keeps its data in a database: a SQLAlchemy session for each call and each event.

The session begins before the method and ends behind it: committed when the method returns, rolled
back when it raises or its deadline comes. Methods only use it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import gemstone_sync
from gemstone_sync import JsonRpcRequest, JsonRpcResponse
from sqlalchemy import CheckConstraint, create_engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

DATABASE = os.environ.get("DATABASE_URL", "sqlite:///bank.db")

current_session: ContextVar[Session] = ContextVar("current_session")


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("balance >= 0"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]


class NoSuchAccount(gemstone_sync.RpcError):
    code = 1001
    message = "No such account"


class NotEnough(gemstone_sync.RpcError):
    code = 1002
    message = "Not enough money"


class BankService(gemstone_sync.MicroService):
    """Accounts, and money that goes from one to another."""

    name = "bank"
    event_transports = [gemstone_sync.MemoryEventTransport()]
    # What is emitted in a transaction of the database is sent if that commits.
    outbox: Any = os.environ.get("OUTBOX", "outbox.db")
    outbox_databases = [DATABASE]

    def on_service_start(self) -> None:
        # Here and not in __init__: with several workers, each has connections of its own.
        self.engine = create_engine(DATABASE)
        self.make_session = sessionmaker(self.engine)
        Base.metadata.create_all(self.engine)

    def on_service_stop(self) -> None:
        self.engine.dispose()

    # Around calls and events

    def around_method_call(
        self, request: JsonRpcRequest, proceed: Callable[..., JsonRpcResponse]
    ) -> JsonRpcResponse:
        with self.session_of_its_own():
            return proceed()

    def around_event(self, event: Any, proceed: Callable[[], Any]) -> Any:
        with self.session_of_its_own():
            return proceed()

    @contextlib.contextmanager
    def session_of_its_own(self) -> Iterator[None]:
        # It connects with the first statement: a call that needs none costs next to nothing.
        with self.make_session.begin() as session:
            token = current_session.set(session)
            try:
                yield
            finally:
                current_session.reset(token)

    # Methods

    @gemstone_sync.exposed_method()
    def open_account(self, name: str, balance: int) -> int:
        """Open an account, or set what is on it."""
        current_session.get().merge(Account(name=name, balance=balance))
        return balance

    @gemstone_sync.exposed_method(errors=[NoSuchAccount, NotEnough])
    def move(self, source: str, target: str, amount: int) -> None:
        """Move money, all of it or none."""
        session = current_session.get()
        for name, change in ((target, amount), (source, -amount)):
            account = session.get(Account, name)
            if account is None:
                raise NoSuchAccount(data=name)
            account.balance += change
            try:
                session.flush()  # so that the first of the two is in the database by now
            except IntegrityError:
                raise NotEnough(data=name) from None
        with self.outbox.transaction(session):
            self.emit_event("money.moved", {"to": target, "amount": amount})

    @gemstone_sync.exposed_method(idempotent=True)
    def balances(self) -> dict[str, int]:
        """Return what is on every account."""
        accounts = current_session.get().scalars(select(Account).order_by(Account.name))
        return {account.name: account.balance for account in accounts}

    @gemstone_sync.event_handler("money.moved")
    def give_bonus(self, body: dict[str, Any]) -> None:
        """Give one in a hundred of what was moved; in a session of the event's own."""
        account = current_session.get().get_one(Account, body["to"])
        account.balance += body["amount"] // 100
        self.logger.info("a bonus of %d for %s", body["amount"] // 100, account.name)

    # Health

    @gemstone_sync.health_check("database:responseTime", timeout=2, every=10)
    def ping_database(self) -> float:
        begun = time.monotonic()
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return round(time.monotonic() - begun, 6)


if __name__ == "__main__":
    BankService().start()
