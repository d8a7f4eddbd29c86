"""The project's service with all that can be measured: for gunicorn, beside the project."""

import time

from myservice.service import MyService

import gemstone_sync


class Watched(MyService):
    outbox = "outbox.db"
    event_transports = [
        gemstone_sync.transport_from_url("sqlite:///events.db", application="watched")
    ]
    blocked_after = 0.05

    @gemstone_sync.exposed_method()
    def emit(self) -> None:
        self.emit_event("happened", {})

    @gemstone_sync.event_handler("happened")
    def give_up(self, body: dict) -> None:
        raise gemstone_sync.Reject("it is of no use")

    @gemstone_sync.exposed_method()
    def ask(self, url: str) -> str:
        with gemstone_sync.RemoteService(url) as other:
            return other.methods.say_hello(name="world")

    @gemstone_sync.exposed_method()
    def hold_up(self) -> None:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass

    @gemstone_sync.exposed_method(timeout=0.05)
    def take_long(self) -> None:
        time.sleep(1.0)
