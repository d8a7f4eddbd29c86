"""structlog: what is bound in one call is not in another's lines."""

import time

import structlog

lines = []
structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, structlog.testing.LogCapture()]
)
log = structlog.get_logger()


def work(n):
    structlog.contextvars.bind_contextvars(n=n)
    time.sleep(0.3)
    log.info("worked")
    return structlog.contextvars.get_contextvars()["n"]
