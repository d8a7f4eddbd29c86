"""The service that is measured: gemstone_sync with every default on.

Run as a program it is the own server (port from BENCH_PORT); gunicorn loads `ours_service:service`.
BENCH_WORKERS sets the number of processes where the package has that.
"""

import os
import time

import gemstone_sync


class Adder(gemstone_sync.MicroService):
    name = "benchmark.adder"
    host = "127.0.0.1"
    port = int(os.environ.get("BENCH_PORT", "0"))
    endpoint = "/api"

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        """Return the sum of two ints."""
        return a + b

    @gemstone_sync.exposed_method()
    def burn(self) -> int:
        """Burn 1 ms of CPU (not of time: a preempted process has still to do all of it)."""
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        return 3


if "BENCH_WORKERS" in os.environ:
    Adder.workers = int(os.environ["BENCH_WORKERS"])  # type: ignore[attr-defined, unused-ignore]

service = Adder()

if __name__ == "__main__":
    service.start()
