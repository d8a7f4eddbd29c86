"""Celery as a client: a task is sent, and its result waited for, through Redis."""

import celery
from places import PEERS, REDIS

app = celery.Celery("tests", broker=REDIS, backend=REDIS)
app.conf.task_default_queue = PEERS.get("celery")


def work(n):
    return app.send_task("double", [n], shadow="double").get(timeout=10) // 2
