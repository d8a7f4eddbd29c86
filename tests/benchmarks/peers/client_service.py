"""The service that client.py's clients call; its own CPU is not counted.

Port from BENCH_PORT, the wire format from BENCH_WIRE_FORMAT: gemstone 0.10.1's client needs the
form of its own time.
"""

import os
import time

import gemstone_sync


class Called(gemstone_sync.MicroService):
    name = "benchmark.called"
    host = "127.0.0.1"
    port = int(os.environ.get("BENCH_PORT", "0"))
    #: Clients by hand keep a connection while the others have their turn.
    keep_alive_timeout = 600.0
    wire_format = os.environ.get("BENCH_WIRE_FORMAT", "jsonrpc")

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @gemstone_sync.exposed_method()
    def nap(self, a: int, b: int) -> int:
        """Return the sum after 10 ms in which nothing is done."""
        time.sleep(0.01)
        return a + b


if __name__ == "__main__":
    Called().start()
