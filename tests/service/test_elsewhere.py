"""threaded=True and cpu=True: calls in native threads and in processes."""

import json
import logging
import os
import pickle
import signal
import threading
from pathlib import Path

import gevent
import pytest
from gevent import monkey
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from gemstone_sync import (
    DeadlineExceeded,
    InternalError,
    MicroService,
    Module,
    RemoteError,
    RpcError,
    ServerOverloaded,
    ServiceConfigurationError,
    exposed_method,
    setting,
)
from gemstone_sync.concurrency import Call, Work, current_call, current_trace
from gemstone_sync.ops.logs import call_fields
from gemstone_sync.service import processes
from gemstone_sync.testing import ServiceClient
from tests.support.http import Connection, call, call_message
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

native_ident = monkey.get_original("_thread", "get_ident")
native_sleep = monkey.get_original("time", "sleep")


class TooBig(RpcError):
    code = -2
    message = "Too big"


class Peculiar(Exception):
    """Cannot be made of its own arguments: so it cannot cross."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Shapes(Module):
    def __init__(self, sides):
        self.sides = sides

    @exposed_method(cpu=True)
    def module_sides(self, times: int) -> list:
        return [self.sides * times, self.microservice.currency]


class Shop(MicroService):
    name = "shop"
    port = 0
    currency: str = setting("EUR")

    @exposed_method(threaded=True)
    def named_as_ours(self, thread: str, function: str) -> str:
        return thread + function

    max_threads = 2
    max_processes = 2
    max_waiting_calls = 1
    modules = [Shapes(4)]

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.rate = 1.5
        self.go_on = []

    # In a thread

    @exposed_method(threaded=True)
    def thread(self):
        return [native_ident(), current_call.get().request_id]

    @exposed_method(threaded=True, timeout=0.1)
    def late_thread(self):
        while not self.go_on:
            native_sleep(0.001)

    @exposed_method(threaded=True)
    def wait_in_thread(self):
        while not self.go_on:
            native_sleep(0.001)

    @exposed_method(threaded=True)
    def fail_in_thread(self):
        raise TooBig(data=3)

    # In a process

    @exposed_method(cpu=True)
    def process(self, factor: float = 1.0):
        call = current_call.get()
        return [os.getpid(), self.rate * factor, self.currency, call_fields(), call.hops]

    @exposed_method(cpu=True, timeout=2)
    def late_process(self, file: str):
        with open(f"{file}.new", "w") as out:
            out.write(str(os.getpid()))
        os.replace(f"{file}.new", file)  # whole: it may be killed at any moment
        while True:
            pass

    @exposed_method(cpu=True)
    def raise_there(self, which: str):
        raise {"rpc": TooBig(data={"n": 1}), "own": Peculiar(1, 2), "exit": SystemExit(3)}[which]

    @exposed_method(cpu=True)
    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    @exposed_method(cpu=True)
    def unpicklable(self):
        return lambda: 1

    @exposed_method(cpu=True)
    def use_lock(self):
        return self.lock.locked()


@pytest.fixture
def shop():
    service = Shop()
    with ServiceClient(service) as client:
        yield client
        service.go_on.append(True)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def has_ended(pid):
    """Tell also of one that its parent has not been told of.

    Its files are closed with its last thread.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except FileNotFoundError:
        return True


# Threads


def test_a_threaded_method_runs_in_a_native_thread_and_keeps_the_call_s_context(shop):
    ident, request_id = shop.call("thread")

    assert ident != native_ident()
    assert len(request_id) == 32
    with pytest.raises(RemoteError) as caught:
        shop.call("fail_in_thread")
    assert (caught.value.code, caught.value.data) == (TooBig.code, 3)


def is_late(shop):
    with pytest.raises(DeadlineExceeded):
        shop.call("late_thread")
    return True


class Quiet(Shop):
    def get_logger(self):
        return logging.Logger("quiet")  # what is told a second later would be another test's


def test_the_deadline_is_answered_in_time_and_the_thread_keeps_its_place_until_it_ends():
    shop = ServiceClient(Quiet())
    slots = shop.service._assemble().elsewhere.threads.slots
    # More often where the time is over before a thread has begun.
    wait_until(lambda: is_late(shop) and slots.in_use == 2, "two threads that go on")
    waiting = gevent.spawn(shop.call, "thread")
    wait_until(lambda: slots.waiting == 1, "the third")
    with pytest.raises(ServerOverloaded):
        shop.call("thread")
    shop.service.go_on.append(True)
    assert waiting.get(timeout=LIMIT)
    wait_until(lambda: slots.in_use == 0, "the threads' end")


def test_stopping_waits_for_threads_within_stop_timeout(running_service):
    service = running_service(Shop)
    slots = service._assemble().elsewhere.threads.slots

    def goes_on_in_its_thread():
        assert call(service.port, "late_thread").json["error"]["code"] == DeadlineExceeded.code
        return slots.in_use == 1

    wait_until(goes_on_in_its_thread, "a call that had begun when its time was over")
    stopping = gevent.spawn(service.stop)
    gevent.sleep(0.05)
    assert not stopping.ready()
    service.go_on.append(True)
    stopping.get(timeout=LIMIT)


# Processes


@pytest.mark.slow  # a process takes a second to begin, on a busy machine several
def test_a_cpu_method_runs_in_a_process_that_has_settings_attributes_and_context(shop):
    shop.service.currency = "CHF"
    pid, amount, currency, fields, hops = shop.call("process", factor=2)

    assert pid != os.getpid()
    assert (amount, currency, len(fields.pop("request_id")), hops) == (3.0, "CHF", 32, 0)
    assert fields == {"service": "shop", "method": "process"}
    assert shop.call("process")[0] == pid  # it is used again
    assert shop.call("module_sides", 2) == [8, "CHF"]


def test_a_process_is_told_the_call_s_names_and_the_span_that_runs():
    """For its lines in the log, and for calls that it makes."""
    call = Call(hops=2, carried={"baggage": "a=1"}, work=Work("method", "process", "shop"))
    span = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1)))
    token = current_call.set(call)
    try:
        with use_span(span):
            trace, fields = current_trace(), call_fields()
            sent = pickle.loads(pickle.dumps(processes._sent(call)))
        current_call.set(sent)
        assert (sent.hops, current_trace()) == (2, trace)
        assert call_fields() == {key: fields[key] for key in fields if key != "span_id"}
    finally:
        current_call.reset(token)


@pytest.mark.slow  # as above
def test_errors_keep_their_class_where_they_can_and_are_told_with_their_stack(shop, caplog):
    with pytest.raises(RemoteError) as caught:
        shop.call("raise_there", "rpc")
    assert (caught.value.code, caught.value.data) == (TooBig.code, {"n": 1})
    for which, told in (("own", "RuntimeError: Peculiar: 1 and 2"), ("exit", "SystemExit: 3")):
        with pytest.raises(InternalError):
            shop.call("raise_there", which)
        assert told in caplog.text
    assert "in raise_there" in caplog.text
    for method, told in (
        ("unpicklable", "its result cannot be pickled"),
        ("use_lock", "lock is not here: this is the process of a cpu=True method"),
        ("die", "ended with exit code -9"),
    ):
        with pytest.raises(InternalError):
            shop.call(method)
        assert told in caplog.text
    assert shop.call("process")[0]  # there is another one


@pytest.mark.slow  # as above
def test_at_its_deadline_the_process_is_killed_and_replaced(shop, tmp_path):
    file = tmp_path / "pid"
    shop.call("process")

    def is_late():
        with pytest.raises(DeadlineExceeded):
            shop.call("late_process", str(file))
        return file.exists()

    wait_until(is_late, "a call that had begun when its time was over", 5 * LIMIT)
    wait_until(lambda: is_gone(int(file.read_text())), "the end of the process")
    assert shop.call("process")[0]


@pytest.mark.slow  # as above
def test_processes_are_recycled_and_those_that_were_killed_meanwhile_replaced(shop, monkeypatch):
    monkeypatch.setattr(processes, "_CALLS", 2)
    first, second, third = (shop.call("process")[0] for _ in range(3))
    assert first == second != third
    os.kill(third, signal.SIGKILL)
    wait_until(lambda: has_ended(third), "its end")
    assert shop.call("process")[0] != third


SLOW_TO_START = """
import time
import gemstone_sync

if __name__ != "__main__":
    time.sleep(1)  # its imports: of torch, say, or on a busy machine

class Shop(gemstone_sync.MicroService):
    name = "shop"
    port = 0
    max_processes = 1

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method(cpu=True, timeout=0.5)
    def work(self):
        self.logger.warning("at work")
        return "done"

if __name__ == "__main__":
    Shop().start()
"""


@pytest.mark.slow  # as above
def test_a_process_goes_on_starting_behind_the_deadline_of_the_call_that_it_was_started_for(
    tmp_path,
):
    with program(SLOW_TO_START, tmp_path, environment={"GEMSTONE_LOG_FORMAT": "json"}) as served:
        served.wait_until_ready()
        assert call(served.port, "work").json["error"]["code"] == DeadlineExceeded.code
        wait_until(
            lambda: call(served.port, "work").json.get("result") == "done", "a process", 5 * LIMIT
        )
        assert served.terminate() == 0
    lines = [json.loads(line) for line in served.stderr.splitlines()]
    # Another one, if its first answer came too late.
    told = [line for line in lines if line["message"] == "at work"]
    assert {(line["service"], line["method"]) for line in told} == {("shop", "work")}


PROGRAM = """
import os, time
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"
    port = 0

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method(cpu=True)
    def pid(self, busy: bool = False):
        if busy:
            print("busy", os.getpid(), flush=True)
        end = time.monotonic() + 3600 * busy
        while time.monotonic() < end:
            pass
        return os.getpid()

if __name__ == "__main__":
    Shop().start()
"""


@pytest.mark.slow  # as above
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_service(tmp_path, number):
    with program(PROGRAM, tmp_path) as served:
        served.wait_until_ready()
        idle = call(served.port, "pid").json["result"]

        with Connection(served.port) as connection:
            if number == signal.SIGKILL:
                connection.send(call_message("pid", True))
                served.wait_until(lambda: "busy" in served.stdout, "the call")
            served.send_signal(number)
            assert served.wait() == (0 if number == signal.SIGTERM else -9)
        wait_until(lambda: is_gone(idle), "the end of the process")


# What cannot be


def test_what_cannot_run_elsewhere_is_refused_where_it_is_written():
    with pytest.raises(ValueError, match="either threaded or cpu"):
        exposed_method(threaded=True, cpu=True)
    for option in ("threaded", "cpu"):
        with pytest.raises(ServiceConfigurationError, match="it cannot take the handler"):

            class Wrong(MicroService):
                name = "wrong"

                @exposed_method(requires_handler_reference=True, **{option: True})
                def ask(self, handler): ...


def test_a_class_that_no_process_could_import_is_refused_at_the_start():
    class Local(MicroService):
        name = "local"

        @exposed_method(cpu=True)
        def compute(self): ...

    with pytest.raises(ServiceConfigurationError, match="at the top of a file"):
        _ = Local().app


def test_parameters_may_be_called_as_the_frameworks_own(service_client):
    given = {"thread": "a", "function": "b"}
    assert service_client(Shop).call("named_as_ours", **given) == "ab"
