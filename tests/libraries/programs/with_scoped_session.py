"""SQLAlchemy's scoped_session: a session for each call."""

import time

from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

Session = scoped_session(sessionmaker(create_engine("sqlite://")))


def work(n):
    try:
        Session().info["n"] = n
        time.sleep(0.3)
        Session.execute(text("SELECT 1"))
        return Session().info["n"]
    finally:
        Session.remove()
