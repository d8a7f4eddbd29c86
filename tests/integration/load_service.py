"""A service that counts what runs in it; a program, and a module for gunicorn.

Its limits come from the environment: ``LIMITS`` is a JSON object of attributes.
"""

import json
import os
import time

import flask
from gevent.event import Event

import gemstone_sync


class Load(gemstone_sync.MicroService):
    name = "load"
    port = 0

    def __init__(self):
        super().__init__()
        for name, value in json.loads(os.environ.get("LIMITS", "{}")).items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.running = self.peak = self.finished = 0
        self.order = []
        self.released = Event()

    def on_service_start(self):
        print(self.url, flush=True)

    def on_service_stop(self):
        print(f"stopped after {self.finished}", flush=True)

    def _enter(self, value):
        self.order.append(value)
        self.running += 1
        self.peak = max(self.peak, self.running)

    def _leave(self):
        self.running -= 1
        self.finished += 1

    @gemstone_sync.exposed_method()
    def nap(self, seconds: float, value: object = None) -> object:
        """Sleep as plain blocking code does."""
        self._enter(value)
        try:
            time.sleep(seconds)
        finally:
            self._leave()
        return value

    @gemstone_sync.exposed_method()
    def hold(self, value: object = None) -> object:
        """Wait for POST /release."""
        self._enter(value)
        try:
            self.released.wait()
        finally:
            self._leave()
        return value

    @gemstone_sync.exposed_method()
    def burn(self, seconds: float) -> None:
        """Compute without ever letting another greenlet run."""
        print("burning", flush=True)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    # Beside the bound: how a test looks in while every place is taken

    @gemstone_sync.route("/counts")
    def counts(self):
        waiting = self.dispatcher.slots.waiting
        return {
            "running": self.running,
            "peak": self.peak,
            "finished": self.finished,
            "waiting": waiting,
        }

    @gemstone_sync.route("/order")
    def values_in_order(self):
        return self.order

    @gemstone_sync.route("/release", methods=["POST"])
    def release(self):
        self.released.set()
        return {}

    @gemstone_sync.route("/stream/<float:seconds>")
    def stream(self, seconds):
        """A page that begins at once and takes so long to end."""

        def pieces():
            yield "begin "
            time.sleep(seconds)
            yield "end"

        return flask.Response(pieces(), mimetype="text/plain")


service = Load()

if __name__ == "__main__":
    service.start()
