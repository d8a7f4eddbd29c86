"""SQLAlchemy over psycopg, its engine made when it is imported."""

from sqlalchemy import create_engine, text

engine = create_engine("postgresql+psycopg://root:test@127.0.0.1/test")


def work(n):
    with engine.connect() as connection:
        return connection.execute(text("SELECT pg_sleep(0.3), :n"), {"n": n}).one()[1]
