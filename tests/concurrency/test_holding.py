"""What holds the hub is told, once, with what it serves and its line; nobody else is blamed."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from gemstone_sync.concurrency.asked_for_stacks import address_of
from tests.support.http import call, call_message, result_of
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

SERVICE = """
import gc, hashlib, os, re, time
import gemstone_sync
from gemstone_sync.concurrency import blocks

class Shop(gemstone_sync.MicroService):
    name = "shop"
    port = 0
    blocked_after = 0.2
    event_transports = [gemstone_sync.MemoryEventTransport()]

    def on_service_start(self):
        print(self.url, flush=True)

    def burn(self, seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass  # the line

    @gemstone_sync.exposed_method()
    def python(self):
        self.burn(0.6)

    @gemstone_sync.exposed_method()
    def in_c(self):
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 3_000_000)

    @gemstone_sync.exposed_method()
    def in_c_with_the_interpreter(self):
        re.match("(a+)+b", "a" * 25)

    @gemstone_sync.exposed_method()
    def garbage(self):
        gc.disable()
        kept = []
        for _ in range(160):  # others have their turn meanwhile
            kept.append([[] for _ in range(50_000)])
            time.sleep(0)
        for _ in range(3):
            gc.collect()
        gc.enable()

    @gemstone_sync.exposed_method()
    def emit(self):
        self.emit_event("sold", 1)

    @gemstone_sync.event_handler("sold")
    def on_sold(self, body):
        self.burn(0.6)

    @gemstone_sync.exposed_method()
    def waits(self):
        time.sleep(0.6)

    @gemstone_sync.exposed_method()
    def waits_on(self):
        time.sleep(1000)

    @gemstone_sync.exposed_method()
    def in_c_for_long(self):
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1_000_000_000)

    @gemstone_sync.exposed_method()
    def counted(self):
        return [blocks.count, blocks.by_name, blocks.seconds, [text for _, text in blocks.recent]]

if __name__ == "__main__":
    Shop().start()
"""

LINE = 1 + SERVICE[: SERVICE.index("# the line")].count("\n")


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    with program(tmp_path / "service.py", tmp_path) as served:
        served.wait_until_ready()
        yield served


def told(served):
    return [line for line in served.stderr.splitlines() if "has held the hub" in line]


def counted(served):
    return result_of(call(served.port, "counted"))


def test_a_method_that_computes_is_named_with_its_line_while_it_computes(shop):
    result_of(call(shop.port, "python"))
    shop.wait_until(lambda: told(shop), "the line")  # written by a thread of its own

    (line,) = told(shop)
    assert re.search(r"WARNING method 'python' has held the hub for \d+\.\d s", line)
    assert re.search(rf"burn at \S*service\.py:({LINE}|{LINE - 1}), called by ", line)
    count, by_name, _, recent = counted(shop)
    assert (count, by_name) == (1, {"python": 1})
    assert len(recent) == 1
    assert recent[0] in line
    wait_until(lambda: counted(shop)[2] > 0.4, "how long it took")


def test_who_wants_to_know_of_shorter_blocks_is_told_of_the_very_first():
    """The watch may have begun to wait for the longest time between two looks."""
    watched = """if True:
        import gevent.monkey
        gevent.monkey.patch_all()
        import time
        from gemstone_sync.concurrency import blocks, watch_this_hub

        class Ears:
            on_lag = on_block = staticmethod(lambda heard: None)

        blocks.observer = Ears()
        watch_this_hub()
        time.sleep(0.1)
        watch_this_hub(0.1)
        end = time.thread_time() + 0.4
        while time.thread_time() < end:
            pass
        time.sleep(0)
        print(blocks.count)
    """
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("in_c", 'in the C call hashlib.pbkdf2_hmac("sha256", b"x"'),
        ("in_c_with_the_interpreter", r"match at "),
        ("emit", "event handler 'Shop.on_sold' has held"),
    ],
)
def test_what_else_holds_it_is_named_too(shop, method, text):
    result_of(call(shop.port, method))
    shop.wait_until(lambda: told(shop), "the line")

    assert text in told(shop)[0]


@pytest.mark.slow  # fills some 800 MB with small objects
def test_the_collection_of_garbage_is_told_as_such(shop):
    result_of(call(shop.port, "garbage"))

    shop.wait_until(lambda: any("in garbage collection" in line for line in told(shop)), "the line")
    assert counted(shop)[1]["garbage collection"] >= 1


def test_waiting_holds_nothing_and_a_process_that_was_stopped_blames_nobody(shop):
    result_of(call(shop.port, "waits"))
    for _ in range(3):
        shop.send_signal(signal.SIGSTOP)
        time.sleep(0.4)  # longer than blocked_after: what is shown is that nothing comes of it
        shop.send_signal(signal.SIGCONT)
        result_of(call(shop.port, "waits"))

    assert not told(shop)
    assert counted(shop)[:2] == [0, {}]


# Who asks


@pytest.fixture
def make_call():
    """``make_call(program, method)``: call, and wait for no answer."""
    with contextlib.ExitStack() as connections:

        def make(served, method):
            connection = socket.create_connection(("127.0.0.1", served.port), LIMIT)
            connections.enter_context(connection).sendall(call_message(method))

        yield make


def test_sigusr2_writes_the_stacks_to_stderr_also_while_the_hub_is_held(shop, make_call):
    for _ in range(2):
        make_call(shop, "waits_on")
    shop.wait_until(
        lambda: asked_by_signal(shop, "2 greenlets wait for time to pass"), "the stacks"
    )
    assert "  in method 'waits_on' x 2\n" in shop.stderr
    make_call(shop, "in_c_for_long")
    in_c = "  in method 'in_c_for_long'\n"
    shop.wait_until(lambda: asked_by_signal(shop, in_c), "the stack of the hub")


def asked_by_signal(served, text):
    served.send_signal(signal.SIGUSR2)
    return text in served.stderr


READING = """
import _thread, gc, sys, time
from gemstone_sync.concurrency.stacks import stacks

def descend(depth):
    return descend(depth - 1) if depth else [[], [], []]

def run_deep():
    while True:
        descend(400)

# As a callback of any library's: others have their turn while garbage is collected.
gc.callbacks.append(lambda phase, info: time.sleep(0))
gc.set_threshold(5, 5, 5)
sys.setswitchinterval(1e-5)
_thread.start_new_thread(run_deep, ())
seen = end = 0
while not (seen and time.monotonic() > end):
    seen += "descend" in stacks()
    end = end or time.monotonic() + 3
print("done", flush=True)
"""


def test_to_read_the_frames_of_a_thread_that_goes_on_does_not_crash(tmp_path):
    """CPython 3.11 did after 0.2 to 2 s of this."""
    with program(READING, tmp_path) as reading:
        assert (reading.wait(), reading.stdout) == (0, "done\n")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_gemstone_stacks_prints_those_of_a_process_and_of_all_its_workers(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE.replace(".start()", ".start(workers=2)"))
    with program(tmp_path / "service.py", tmp_path) as served:
        served.wait_until_ready()
        served.wait_until(lambda: "with 2 workers" in served.stderr, "both workers")
        done = gemstone("stacks", str(served.process.pid))

        assert (done.returncode, done.stderr) == (0, "")
        assert len(re.findall(r"^process \d+: ", done.stdout, re.MULTILINE)) == 2
        served.send_signal(signal.SIGUSR2)  # which the parent hands on
        served.wait_until(
            lambda: len(re.findall(r"^process \d+: ", served.stderr, re.MULTILINE)) == 2, "both"
        )
        assert served.terminate() == 0


@pytest.mark.parametrize(
    ("target", "code", "text"),
    [
        ("999999999", 3, "no gemstone_sync service runs as process 999999999"),
        ("http://127.0.0.1:9/api", 3, "127.0.0.1:9"),
        ("shop", 2, "a process id or a URL"),
    ],
)
def test_gemstone_stacks_says_in_a_line_what_it_cannot_reach(target, code, text):
    done = gemstone("stacks", target)

    assert done.returncode == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_gemstone_stacks_believes_nobody_else_who_has_taken_the_address(tmp_path):
    with (
        program("import time; print('up', flush=True); time.sleep(1000)", tmp_path) as other,
        socket.socket(socket.AF_UNIX) as taken,
    ):
        pid = other.process.pid
        taken.bind(address_of(pid))  # as another user may, before a process of that number starts
        taken.listen()
        done = gemstone("stacks", str(pid))

    assert (done.returncode, done.stdout) == (3, "")
    assert f"no gemstone_sync service runs as process {pid}" in done.stderr


def test_gemstone_stacks_asks_a_url_and_gets_an_answer_from_this_machine_only(shop):
    done = gemstone("stacks", f"http://127.0.0.1:{shop.port}/api")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"process {shop.process.pid}: ")


def gemstone(*words):
    command = [sys.executable, "-m", "gemstone_sync", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
