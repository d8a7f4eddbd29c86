"""gemstone 0.10.1 on tornado, the framework this package re-creates. Port from BENCH_PORT.

Its defaults log every request at level INFO; the level is raised because no other server here
writes an access log. skip_configuration: its `port` option is random whatever the command line
says.
"""

import logging
import os

import gemstone


class Adder(gemstone.MicroService):
    name = "benchmark.adder"
    host = "127.0.0.1"
    port = int(os.environ["BENCH_PORT"])
    endpoint = "/api"
    skip_configuration = True

    @gemstone.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b


if __name__ == "__main__":
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    Adder().start()
