"""What log records tell of the call they are made in, and what of a caller's never reaches them."""

import contextvars
import io
import json
import logging
import logging.handlers
import queue
import re

import gevent
import pytest

import gemstone_sync
from gemstone_sync.concurrency import Call, Work, current_call, spawn
from gemstone_sync.ops import CallFilter, CallRecord, JsonFormatter, add_call_fields
from gemstone_sync.testing import ServiceClient
from tests.support.http import JSON, call, call_body, exchange, message
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def running_call():
    token = current_call.set(
        Call(request_id="r1", traceparent=TRACE, work=Work("method", "sell", "shop"))
    )
    yield
    current_call.reset(token)


@pytest.fixture
def logged():
    """``logged(formatter, *filters)``: a logger of its own, and the stream it writes to."""

    def make(formatter, *filters):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        for each in filters:
            handler.addFilter(each)
        logger = logging.Logger("users.own")
        logger.addHandler(handler)
        return logger, stream

    return make


def json_of(stream):
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    return json.loads(line)


# For anybody's logging


def test_a_filter_gives_any_formatter_the_call_s_ids(running_call, logged):
    text = "%(message)s %(service)s %(method)s %(event)s %(request_id)s %(trace_id)s %(span_id)s"
    logger, stream = logged(logging.Formatter(text), CallFilter())
    logger.warning("sold")

    assert stream.getvalue() == f"sold shop sell - r1 {'a' * 32} -\n"


def test_outside_of_a_call_the_same_format_works(logged):
    logger, stream = logged(logging.Formatter("%(message)s %(request_id)s"), CallFilter())
    logger.warning("begun")

    assert stream.getvalue() == "begun -\n"


@pytest.mark.parametrize("with_factory", [False, True])
def test_an_extra_of_the_same_name_is_the_user_s(running_call, logged, with_factory):
    before = logging.getLogRecordFactory()
    if with_factory:
        logging.setLogRecordFactory(CallRecord)
    try:
        filters = [] if with_factory else [CallFilter()]
        logger, stream = logged(logging.Formatter("%(request_id)s %(method)s"), *filters)
        logger.warning("sold", extra={"request_id": "mine"})
    finally:
        logging.setLogRecordFactory(before)

    assert stream.getvalue() == "mine sell\n"


def test_a_record_factory_keeps_what_was_known_for_whoever_formats_it_later(running_call, logged):
    waiting = queue.SimpleQueue()
    logger = logging.Logger("users.own")
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(CallRecord)
    try:
        logger.warning("sold")
    finally:
        logging.setLogRecordFactory(before)
    record = waiting.get()
    current_call.set(None)

    _, stream = other = logged(logging.Formatter("%(request_id)s %(method)s"))
    other[0].handle(record)
    assert stream.getvalue() == "r1 sell\n"


def test_structlog_s_event_stays_its_text(running_call):
    assert add_call_fields(None, "info", {"event": "sold", "method": "mine"}) == {
        "event": "sold",
        "method": "mine",
        "service": "shop",
        "request_id": "r1",
        "trace_id": "a" * 32,
    }


# JSON


def test_json_has_the_ids_the_error_and_what_users_add(running_call, logged):
    logger, stream = logged(JsonFormatter())
    try:
        raise ValueError("at postgres://ada:sesame@db/")
    except ValueError:
        logger.exception("no %s", "tea", extra={"order": 17, "api_token": "sesame"})

    told = json_of(stream)
    assert told["time"].endswith("Z")
    assert (told["level"], told["logger"], told["message"]) == ("ERROR", "users.own", "no tea")
    assert (told["service"], told["method"], told["request_id"]) == ("shop", "sell", "r1")
    assert (told["trace_id"], "span_id" in told) == ("a" * 32, False)
    assert (told["error"]["class"], told["order"]) == ("ValueError", 17)
    assert "test_logs.py" in told["error"]["stack"]
    assert "sesame" not in stream.getvalue()


class Unprintable:
    def __repr__(self):
        raise ValueError("no")


@pytest.mark.parametrize(
    "value",
    [float("nan"), {(1, 2): 3}, object(), Unprintable(), b"\xff", "\ud800", "\x00\x1b[2J\x7f\x9b"],
    ids=["nan", "keys", "object", "unprintable", "bytes", "surrogate", "controls"],
)
def test_whatever_is_logged_is_one_line_of_valid_json(logged, value):
    logger, stream = logged(JsonFormatter())
    circle = {}
    circle["self"] = circle
    logger.warning("a\nb\u2028c\x85 %s", "d", extra={"odd": value, "circle": circle})

    told = json_of(stream)
    assert told["message"] == "a\nb\u2028c\x85 d"
    assert "odd" in told


@pytest.mark.parametrize("parent", ["evil\x1b[2J", "00-short-1-01", "00-" + "Z" * 32 + "-1-01"])
def test_a_hostile_traceparent_is_no_trace_id(logged, parent):
    token = current_call.set(Call(request_id="r1", traceparent=parent))
    logger, stream = logged(JsonFormatter())
    logger.warning("sold")
    current_call.reset(token)

    assert "trace_id" not in json_of(stream)


# In calls and events


class Shop(gemstone_sync.MicroService):
    name = "shop"
    port = 0
    slow_call_seconds = 1e-9

    @gemstone_sync.exposed_method()
    def sell(self):
        logging.getLogger("users.own").warning("selling")
        spawn(logging.getLogger("users.own").warning, "in a greenlet").get()
        self.start_thread(logging.getLogger("users.own").warning, ["in a thread"]).join()
        executor = self.get_executor()
        executor.submit(logging.getLogger("users.own").warning, "in a native thread").result()

    @gemstone_sync.exposed_method()
    def emit(self):
        self.emit_event("sold", 1)

    @gemstone_sync.event_handler("sold")
    def on_sold(self, body):
        logging.getLogger("users.own").warning("sold")


BOUND = contextvars.ContextVar("BOUND", default=())


class Binding(gemstone_sync.MicroService):
    """Binds context variables, as structlog's ``bind_contextvars`` does, and never unbinds them."""

    name = "binding"
    port = 0

    def bind(self, what):
        seen = BOUND.get()
        BOUND.set((*seen, what))
        self.seen.append(seen)

    @gemstone_sync.exposed_method()
    def sell(self):
        self.bind("call")
        self.emit_event("sold", 1)

    @gemstone_sync.event_handler("sold")
    def on_sold(self, body):
        self.bind("event")

    @gemstone_sync.periodic(0.01)
    def look(self):
        self.bind("task")

    def around_method_call(self, request, proceed):
        self.bind("around")
        return proceed()


def test_what_is_bound_in_one_call_event_or_task_is_not_there_in_the_next(running_service):
    transport = gemstone_sync.MemoryEventTransport()
    Binding.seen = []
    service = running_service(Binding, event_transports=[transport])
    remote = gemstone_sync.RemoteService(service.url)
    for _ in range(3):
        remote.methods.sell()
        remote.call_batch(*[gemstone_sync.MethodCall("sell") for _ in range(3)])
    assert transport.drain(10)
    wait_until(lambda: service.seen.count(()) > 40, "calls, events and tasks")
    assert set(service.seen) == {(), ("around",)}


def fields(records):
    wanted = [record for record in records if record.name == "users.own"]
    return [(r.getMessage(), r.service, r.method, r.event, r.request_id) for r in wanted]


def test_records_carry_them_in_spawned_greenlets_and_threads_too(caplog):
    caplog.handler.addFilter(CallFilter(missing=None))
    ServiceClient(Shop(), headers={"X-Request-Id": "r7"}).call("sell")

    assert fields(caplog.records) == [
        (text, "shop", "sell", None, "r7")
        for text in ("selling", "in a greenlet", "in a thread", "in a native thread")
    ]


def test_records_of_an_event_name_it_and_have_the_request_s_id(running_service, caplog):
    caplog.handler.addFilter(CallFilter(missing=None))
    transport = gemstone_sync.MemoryEventTransport()
    service = running_service(Shop, event_transports=[transport])
    sent = message("POST", "/api", {**JSON, "X-Request-Id": "r8"}, call_body("emit"))
    assert exchange(service.port, sent).status == 200
    assert transport.drain(10)

    assert fields(caplog.records) == [("sold", "shop", None, "sold", "r8")]


class Refusing(gemstone_sync.MicroService):
    name = "shop"
    port = 0
    slow_call_seconds = 0.02
    max_response_size = 1000

    @gemstone_sync.exposed_method(timeout=0.05)
    def late(self):
        gevent.sleep(LIMIT)

    @gemstone_sync.exposed_method()
    def long(self):
        return "x" * 1000

    @gemstone_sync.exposed_method()
    def odd(self):
        return object()

    @gemstone_sync.exposed_method(private=True)
    def secret(self):
        self.emit_event("sold", 1)

    @gemstone_sync.exposed_method()
    def emit(self):
        self.emit_event("sold", 1)

    @gemstone_sync.event_handler("sold", retries=0)
    def on_sold(self, body):
        gevent.sleep(0.03)
        raise ValueError

    @gemstone_sync.event_handler("sold")
    def on_sold_too(self, body: str):
        pass


def test_what_is_told_of_a_call_or_event_has_its_ids_too(running_service, caplog):
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(CallFilter(missing=None))
    transport = gemstone_sync.MemoryEventTransport()
    service = running_service(Refusing, event_transports=[transport])
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    head = {**JSON, "X-Request-Id": "r9", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    for name in ("late", "long", "odd", "secret", "nobody", "emit"):
        exchange(service.port, message("POST", "/api", head, call_body(name)))
    exchange(service.port, message("POST", "/api", head, b"{"))
    assert transport.drain(10)

    told = [record for record in caplog.records if "r9" in record.getMessage() or record.exc_info]
    assert {(r.request_id, r.trace_id) for r in told} == {("r9", trace)}
    assert {(r.getMessage().split()[0], r.method or r.event) for r in told} >= {
        ("Refusing.on_sold", "sold"),
        ("Refusing.on_sold:", "sold"),
        ("encoding", "odd"),
        ("late", "late"),
        ("refused", "late"),
        ("refused", "long"),
        ("refused", "secret"),
        ("refused", None),  # no method has the name of "nobody"
    }
    (invalid,) = (r for r in caplog.records if "does not fit" in r.getMessage())
    assert (invalid.event, invalid.service, invalid.request_id) == ("sold", "shop", "r9")


def test_slow_calls_and_events_are_told_once_a_second_of_each(running_service, caplog):
    service = running_service(Shop, event_transports=[gemstone_sync.MemoryEventTransport()])
    # In one request, so that no second ends between them.
    three = b"[" + b",".join([call_body("get_service_specs")] * 3) + b"]"
    assert len(exchange(service.port, message("POST", "/api", JSON, three)).json) == 3
    call(service.port, "nobody")

    def told():
        return [r.getMessage() for r in caplog.records if r.name == "gemstone_sync.slow"]

    first = told()[0]
    assert re.match(r"get_service_specs took \d+\.\d{3} s \[request_id=", first)
    wait_until(lambda: len(told()) == 2, "the others")
    assert "and 1 more like it" in told()[1]


PROGRAM = """
import logging, sys, warnings
import gevent
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"
    port = 0
    access_log = True

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def sell(self, word):
        logging.getLogger("users").info("sold %s", word)
        gevent.spawn(lambda: 1 / 0).join()
        warnings.warn("beware")
        raise ValueError(word)

SETUP
if __name__ == "__main__":
    Shop().start()
"""


def test_json_logs_of_a_program_are_json_whatever_comes(tmp_path):
    environment = {"GEMSTONE_LOG_FORMAT": "json"}
    source = PROGRAM.replace("SETUP", "")
    with program(source, tmp_path, environment=environment) as served:
        served.wait_until_ready()
        head = {**JSON, "X-Request-Id": "r9", "User-Agent": 'a\x9b"b'}
        exchange(served.port, message("POST", "/api", head, call_body("sell", "\x1b[2J\ntea")))
        served.wait_until(lambda: "POST /api" in served.stderr, "the access log")
        assert served.terminate() == 0
    lines = [json.loads(line) for line in served.stderr.splitlines()]

    sold = next(line for line in lines if line["logger"] == "users")
    assert (sold["method"], sold["request_id"], sold["service"]) == ("sell", "r9", "shop")
    (access,) = (line for line in lines if line.get("request") == "POST /api HTTP/1.1")
    assert (access["logger"], access["status"]) == ("gemstone_sync.access", 200)
    assert (access["remote"], access["request_id"]) == ("127.0.0.1", "r9")
    assert any(line.get("error", {}).get("class") == "ZeroDivisionError" for line in lines)
    assert any(line["logger"] == "py.warnings" for line in lines)
    assert "\x1b" not in served.stderr


def test_on_a_console_records_of_a_call_end_with_its_ids(tmp_path):
    with program(PROGRAM.replace("SETUP", ""), tmp_path) as served:
        served.wait_until_ready()
        head = {**JSON, "X-Request-Id": "r9"}
        exchange(served.port, message("POST", "/api", head, call_body("sell", "tea")))
        served.wait_until(lambda: " INFO sold tea [sell request_id=r9]\n" in served.stderr, "it")


def test_where_the_program_has_set_up_logging_that_counts_and_is_told(tmp_path):
    source = PROGRAM.replace("SETUP", "logging.basicConfig(format='own %(message)s')")
    settings = {"GEMSTONE_LOG_FORMAT": "json", "GEMSTONE_LOG_LEVEL": "debug"}
    with program(source, tmp_path, environment=settings) as served:
        served.wait_until_ready()
        assert served.terminate() == 0

    assert "the program has set up logging itself: give its handlers" in served.stderr
    assert "own shop listens on" in served.stderr  # log_level is of our own loggers


@pytest.mark.parametrize(("level", "shown"), [("error", False), ("info", True), ("INFO", True)])
def test_log_level_is_a_setting(tmp_path, level, shown):
    settings = {"GEMSTONE_LOG_LEVEL": level}
    with program(PROGRAM.replace("SETUP", ""), tmp_path, environment=settings) as served:
        served.wait_until_ready()
        assert served.terminate() == 0
    assert ("listens on" in served.stderr) is shown
