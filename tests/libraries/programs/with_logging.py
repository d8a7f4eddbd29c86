"""Logging through a queue and its listener."""

import logging
import logging.handlers
import queue
import time

lines = []


class Keeping(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


waiting = queue.Queue()
listener = logging.handlers.QueueListener(waiting, Keeping())
listener.start()
log = logging.getLogger("tests")
log.addHandler(logging.handlers.QueueHandler(waiting))
log.propagate = False
log.setLevel("INFO")


def work(n):
    log.info("worked %d", n)
    time.sleep(0.3)
    while f"worked {n}" not in lines:
        time.sleep(0.01)
    return n
