"""Services as a program: what a signal does where it is not the main thread that serves."""

import pytest

from ..support.programs import program

SERVICE = """
import functools, signal, threading, time
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "threads"
    host, port = "127.0.0.1", 0
    skip_configuration = True

    def on_service_start(self):
        print("ready", flush=True)

    def on_service_stop(self):
        print("stop hook", flush=True)

service = Service()
"""

#: Programs, and whether a warning is due.
PROGRAMS = {
    "a thread": (
        SERVICE + "threading.Thread(target=service.start).start()",
        True,
    ),
    "a timer": (
        SERVICE
        + "timer = threading.Timer(0, gemstone_sync.run, [service])\n"
        + "timer.start()\ntimer.join()",
        True,
    ),
    "a thread that is older than the patch": (
        f"""
import requests, threading
def serve():
    exec({SERVICE!r} + "service.start()", {{"__name__": "mine"}})
thread = threading.Thread(target=serve)
thread.start()
thread.join()
""",
        True,
    ),
    "a native thread": (
        SERVICE + "service.get_executor().submit(service.start).result()",
        True,
    ),
    "the main thread": (SERVICE + "service.start()", False),
    "a thread, not waiting": (
        SERVICE
        + "threading.Thread(target=functools.partial(service.start, block=False)).start()\n"
        + "time.sleep(1000)",
        False,
    ),
    "a thread, and a handler of the program's": (
        SERVICE
        + "signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.stop).start())"
        + "\nthread = threading.Thread(target=service.start)\nthread.start()\nthread.join()",
        False,
    ),
}


@pytest.mark.parametrize("where", PROGRAMS)
def test_a_service_that_hears_no_signals_says_so(tmp_path, where):
    source, is_told = PROGRAMS[where]
    with program(source, tmp_path) as service:
        service.wait_until(lambda: "ready" in service.stdout, "the service")
        service.terminate()
        told = "threads is started outside the main thread" in service.stderr
        assert told == is_told
