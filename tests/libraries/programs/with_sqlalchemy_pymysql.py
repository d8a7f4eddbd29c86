"""SQLAlchemy over pymysql, its engine made when it is imported."""

from sqlalchemy import create_engine, text

engine = create_engine("mysql+pymysql://root@127.0.0.1/test")


def work(n):
    with engine.connect() as connection:
        return connection.execute(text("SELECT sleep(0.3), :n"), {"n": n}).one()[1]
