"""A module for gunicorn, whose service writes down its life in the file ``DIARY``."""

import os
import time

import gemstone_sync

DIARY = os.environ["DIARY"]


def note(what):
    with open(DIARY, "a") as diary:  # short appends are atomic
        diary.write(f"{what} {os.getpid()}\n")


class Worker(gemstone_sync.MicroService):
    name = "worker"
    timeout = "unset"  # gunicorn has an option of this name
    configurables = [
        *gemstone_sync.MicroService.configurables,
        gemstone_sync.Configurable("timeout"),
    ]

    def on_service_start(self):
        if os.environ.get("FAIL"):
            raise RuntimeError("the database is away")
        note("start")

    def on_service_stop(self):
        note("stop")

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @gemstone_sync.exposed_method()
    def pid(self) -> int:
        time.sleep(0.02)  # so that calls at the same time reach more than one worker
        return os.getpid()

    @gemstone_sync.exposed_method()
    def configured(self) -> list:
        return [self.timeout, self.port]

    @gemstone_sync.exposed_method()
    def argv(self) -> list:
        import sys

        return sys.argv


service = Worker()
