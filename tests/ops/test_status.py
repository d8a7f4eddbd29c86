"""The status page: who may see it, and what it tells of one process."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import gevent
import msgspec
import pytest
from gevent import monkey
from gevent.event import Event

from gemstone_sync import (
    BasicAuthStrategy,
    BearerTokenStrategy,
    DeadlineExceeded,
    MemoryEventTransport,
    MicroService,
    Outbox,
    RemoteError,
    RpcError,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
    health_check,
)
from gemstone_sync.concurrency import CallSlots
from gemstone_sync.concurrency.blocked import Blocks
from gemstone_sync.config.redaction import MASK
from gemstone_sync.ops import status as counting
from gemstone_sync.ops.status import together
from gemstone_sync.testing import ServiceClient
from tests.support.waiting import LIMIT, wait_until

native_sleep = monkey.get_original("time", "sleep")

TOKEN = {"X-Api-Token": "let me in"}
JSON = {"Accept": "application/json", **TOKEN}
MEGABYTE = "<script>\u202e</script>redis://:sesame@host " * 25_000


Secret = Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]


@dataclass
class Card:
    number: Secret
    holder: str


class Full(RpcError):
    code = 7
    message = "It is full"


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


class Shown(MicroService):
    name = "shown"
    version = "1.2.3"
    status_page = True
    max_parallel_blocking_tasks = 2
    secret_key = "sesame"

    def __init__(self):
        super().__init__()
        self.gate = Event()

    def authenticate_request(self, handler):
        return handler.api_token == TOKEN["X-Api-Token"]

    @exposed_method()
    def buy(self, item: str = "tea") -> str:
        return item

    @exposed_method()
    def wait(self):
        self.gate.wait(LIMIT)  # the line

    @exposed_method()
    def connect(self):
        self.gate.wait(LIMIT if "redis://:sesame@host" else 0)

    @exposed_method(timeout=0.01)
    def late(self):
        gevent.sleep(LIMIT)

    @exposed_method()
    def fail(self, text: str, password: str = "", more: dict | None = None):
        raise ValueError(text)

    @exposed_method()
    def pay(self, pin: Secret, card: "Card", more: list, cards: "list[Card]"):
        raise ValueError

    @exposed_method()
    def refuse(self):
        raise Full

    @exposed_method()
    def odd(self, kind: str):
        raise {"unspeakable": Unspeakable, "surrogate": KeyError}[kind]("\udc80")


LINES = Path(__file__).read_text().splitlines()
LINE = 1 + next(number for number, text in enumerate(LINES) if "# the line" in text)


@pytest.fixture
def client():
    with ServiceClient(Shown()) as found:
        yield found


def status(client):
    reply = client.request("GET", "/status", headers=JSON)
    assert reply.status == 200
    return json.loads(reply.body)


def failing(client, *arguments, **named):
    with pytest.raises(RemoteError) as caught:
        client.call(*arguments, **named)
    return caught.value


# Who may see it


def test_it_is_off_unless_it_is_wanted_and_nobody_observes():
    service = type("Off", (Shown,), {"status_page": False})()
    client = service.app.test_client()
    for path in ("/status", "/status/", "/status/0123456789abcdef/app.css"):
        assert client.get(path, headers=JSON).status_code == 404
    assert service._assemble().observers == ()
    assert service._assemble().status is None


@pytest.mark.parametrize("token", [{}, {"X-Api-Token": "wrong"}, {"X-Api-Token": ""}])
def test_without_what_the_service_asks_for_it_says_only_what_that_is(token):
    client = Shown().app.test_client()
    reply = client.get("/status", headers={"Accept": "application/json", **token})
    assert reply.status_code == 401
    assert reply.get_json() == {"tokens": [{"kind": "header", "name": "X-Api-Token"}]}
    page = client.get("/status", headers={"Accept": "text/html", **token})
    assert page.status_code == 401
    assert page.headers["Cache-Control"] == "no-store"
    assert b"status.js" in page.data  # which asks for it
    assert b"shown" not in page.data
    again = client.get("/status", headers={"If-None-Match": page.headers["ETag"], **token})
    assert (again.status_code, again.data) == (401, page.data)


def test_a_service_that_lets_nobody_in_says_so(running_service, caplog):
    running_service(type("Closed", (MicroService,), {"name": "closed", "status_page": True}))
    assert "status_page = True lets nobody in" in caplog.text


@pytest.mark.parametrize(
    ("strategy", "accept", "challenge"),
    [
        (BearerTokenStrategy(), "application/json", "Bearer"),
        (BasicAuthStrategy(), "text/html", 'Basic realm="status", charset="UTF-8"'),
        (BasicAuthStrategy(), "application/json", None),
    ],
    ids=["bearer", "basic page", "basic json"],
)
def test_it_says_how_to_authenticate_where_there_is_a_word_for_it(strategy, accept, challenge):
    service = Shown()
    service.validation_strategies = [strategy]
    reply = service.app.test_client().get("/status", headers={"Accept": accept})
    assert (reply.status_code, reply.headers.get("WWW-Authenticate")) == (401, challenge)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/json", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("*/*", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        (None, "text/html; charset=utf-8"),
    ],
)
def test_it_answers_in_the_form_that_is_asked_for(accept, content_type):
    headers = TOKEN if accept is None else {"Accept": accept, **TOKEN}
    reply = Shown().app.test_client().get("/status", headers=headers)
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, content_type)
    assert "Accept" in reply.vary
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    kept = {"application/json": "no-store"}.get(content_type, "no-cache")
    assert reply.headers["Cache-Control"] == kept


@pytest.mark.parametrize("path", ["/status", "/ops/how is it", "/ops/", "/"])
def test_its_files_lie_below_it_wherever_that_is(path):
    service = Shown()
    service.status_path = path
    client = service.app.test_client()
    page = client.get(path, headers=TOKEN).get_data(as_text=True)
    links = re.findall(r'(?:src|href)="([^"]+/[\w.]+)"', page)
    assert {"status.js", "app.css", "dom.js"} <= {link.rpartition("/")[2] for link in links}
    for link in links:
        assert client.get(f"{path.rpartition('/')[0]}/{link}").status_code == 200
    assert client.get(f"{path.rstrip('/')}/0123456789abcdef/app.css").status_code == 404


@pytest.mark.parametrize("path", ["/metrics", "/api/docs", "/api/openrpc.json"])
def test_a_path_that_another_page_has_is_refused(path):
    service = Shown()
    service.metrics = True
    service.status_path = path
    with pytest.raises(ServiceConfigurationError, match=f"{path} is one path for two things"):
        _ = service.app


# Calls


def test_calls_are_counted_by_method(client):
    for _ in range(3):
        client.call("buy")
    failing(client, "fail", "x")
    failing(client, "refuse")
    methods = {each["name"]: each for each in status(client)["methods"]}
    assert {n: (m["calls"], m["errors"], m["refused"]) for n, m in methods.items()} == {
        "buy": (3, 0, 0),
        "fail": (1, 1, 0),
        "refuse": (1, 1, 0),
    }
    buy = methods["buy"]
    assert buy["minute"]["calls"] == 3
    assert 3 / 70 <= buy["minute"]["per_second"] <= 3
    assert 0 < buy["p50"] <= buy["p95"] <= buy["p99"] <= buy["max"]


def test_names_that_only_callers_know_are_one(client):
    for number in range(200):
        failing(client, f"nothing.{number}")
    [other] = status(client)["methods"]
    assert (other["name"], other["refused"], other["calls"]) == ("_OTHER", 200, 0)
    assert (other["p50"], other["minute"]["p50"]) == (None, None)


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: ``clock[0] = 5.0``."""
    now = [1000.0]
    monkeypatch.setattr(counting.time, "monotonic", lambda: now[0])
    return now


def test_the_last_minute_is_told_apart_from_all_and_quantiles_are_near(clock):
    durations = [number / 1000 for number in range(1, 1001)]
    first, second = counting._Tally(), counting._Tally()
    for tally in (first, second):
        for seconds in durations:
            tally.add(seconds, seconds > 0.9, clock[0])
    for _ in range(30):  # ten minutes
        clock[0] += 20
        first.add(5.0, False, clock[0])
    [told] = together([{"a": first.as_dict(600)}, {"a": second.as_dict(600)}])
    assert (told["calls"], told["errors"], told["max"]) == (2030, 200, 5.0)
    for name, exact in (("p50", 0.51), ("p95", 0.96), ("p99", 5.0)):
        assert told[name] == pytest.approx(exact, rel=0.1)
    assert (told["minute"]["calls"], told["minute"]["errors"]) == (4, 0)
    assert told["minute"]["per_second"] == pytest.approx(4 / 60)
    assert told["minute"]["p50"] == pytest.approx(5.0, rel=0.1)
    assert len(first._state[1]) <= 8  # it does not grow


def test_a_worker_that_replaces_another_is_up_since_its_own_start(clock):
    made_before_the_fork = counting.Status(lambda name, params: params)
    clock[0] += 600
    made_before_the_fork.start()
    clock[0] += 5
    assert made_before_the_fork.as_dict(CallSlots(1, 0, 0))["uptime"] == 5


def test_calls_in_flight_have_age_stack_and_what_they_wait_for(client):
    calls = [gevent.spawn(client.call, "wait") for _ in range(3)]
    wait_until(lambda: client.service.dispatcher.slots.waiting == 1, "one that waits for a place")
    told = status(client)
    [worker] = told["workers"]
    assert (worker["running"], worker["waiting"], worker["places"]) == (2, 1, 2)
    *running, waiting = told["in_flight"]
    assert [each["method"] for each in told["in_flight"]] == ["wait"] * 3
    assert waiting["waits_for"] == "a place"
    for each in running:
        assert "self.gate.wait(LIMIT)" in each["waits_for"]
        assert each["stack"][-1].endswith(f":{LINE}")
        assert "Shown.wait at " in each["stack"][-1] or sys.version_info < (3, 11)
    ages = [each["age"] for each in told["in_flight"]]
    assert ages == sorted(ages, reverse=True)
    assert len({each["request_id"] for each in told["in_flight"]}) == 3
    client.service.gate.set()
    gevent.joinall(calls, raise_error=True)
    assert status(client)["in_flight"] == []


class Elsewhere(MicroService):
    name = "elsewhere"
    status_page = True
    authenticate_request = Shown.authenticate_request

    @exposed_method(threaded=True)
    def thread(self, gate: str):
        while not Path(gate).exists():
            native_sleep(0.01)

    @exposed_method(cpu=True)
    def process(self, gate: str):
        self.thread(gate)


def test_what_runs_elsewhere_is_shown_where_it_runs(service_client, tmp_path):
    client, gate = service_client(Elsewhere), tmp_path / "gate"
    calls = [gevent.spawn(client.call, name, str(gate)) for name in ("thread", "process")]

    def both():
        found = {each["method"]: each for each in status(client)["in_flight"]}
        begun = len(found) == 2 and "thread at " in str(found["thread"]["stack"])
        return begun and str(found["process"]["waits_for"]).startswith("process") and found

    running = wait_until(both, "both")
    assert running["thread"]["waits_for"] is None
    assert re.search(r"thread at .*/test_status\.py:\d+$", running["thread"]["stack"][-1])
    assert re.fullmatch(r"process \d+", running["process"]["waits_for"])
    assert running["process"]["stack"] == []
    gate.touch()
    gevent.joinall(calls, raise_error=True)
    assert status(client)["in_flight"] == []


def test_what_a_call_waits_for_is_told_without_secrets(client):
    calling = gevent.spawn(client.call, "connect")
    [told] = wait_until(lambda: status(client)["in_flight"], "the call")
    assert "gate.wait" in told["waits_for"]
    assert "sesame" not in json.dumps(told)
    client.service.gate.set()
    calling.get()


# Errors


def test_an_error_has_its_ids_traceback_and_arguments_without_secrets(client):
    secret = {"api_key": "sesame", "at": ["redis://:sesame@host/1", {"token": "sesame"}]}
    error = failing(
        client, "fail", text="to http://ada:sesame@host", password="sesame", more=secret
    )
    [told] = status(client)["errors"]
    assert told["error_id"] == error.data["error_id"]
    assert (told["method"], told["code"], told["times"]) == ("fail", -32603, 1)
    assert told["error"] == "ValueError"
    assert "in fail" in told["traceback"]
    assert "raise ValueError(text)" in told["traceback"]
    assert json.loads(told["arguments"])["password"] == MASK
    assert "sesame" not in json.dumps(told)


def test_arguments_by_position_are_masked_by_the_names_of_parameters(client):
    failing(client, "fail", "x", "sesame", {"pwd": "sesame"})
    [told] = status(client)["errors"]
    assert json.loads(told["arguments"]) == ["x", MASK, {"pwd": MASK}]


def test_arguments_are_masked_by_what_their_hints_say(client, monkeypatch):
    monkeypatch.setattr(counting, "_TOGETHER", 0)
    card = {"number": "sesame", "holder": "ada"}
    given = {"pin": "sesame", "card": card, "more": [], "cards": [card]}
    failing(client, "pay", **given)
    failing(client, "pay", *given.values())
    masked = {"number": MASK, "holder": "ada"}
    wanted = {"pin": MASK, "card": masked, "more": [], "cards": [masked]}
    by_position, by_name = (json.loads(each["arguments"]) for each in status(client)["errors"])
    assert by_name == wanted
    assert by_position == [*wanted.values()]


def test_what_is_an_answer_or_the_callers_doing_is_no_error_to_look_at(client):
    failing(client, "refuse")
    failing(client, "buy", item=5)
    failing(client, "nothing")
    assert status(client)["errors"] == []
    failing(client, "late")
    [told] = status(client)["errors"]
    assert (told["method"], told["code"]) == ("late", DeadlineExceeded.code)


def test_a_flood_of_one_error_hides_no_other(client, monkeypatch):
    failing(client, "odd", "surrogate")
    monkeypatch.setattr(counting, "_TOGETHER", LIMIT)
    for number in range(200):
        failing(client, "fail", str(number))
    newest, other = status(client)["errors"]
    assert (newest["text"], newest["times"]) == ("0", 200)
    assert other["error"] == "KeyError"
    monkeypatch.setattr(counting, "_TOGETHER", 0)
    for number in range(100):
        failing(client, "fail", str(number))
    errors = status(client)["errors"]
    assert [each["text"] for each in errors] == [str(n) for n in range(99, 49, -1)]


def test_texts_of_any_kind_are_told_as_texts_and_not_too_long(client):
    failing(client, "odd", "unspeakable")
    failing(client, "odd", "surrogate")
    failing(client, "fail", MEGABYTE)
    long, surrogate, unspeakable = status(client)["errors"]
    assert long["text"].startswith("<script>\u202e</script>redis://:********@host ")
    assert max(len(str(value)) for value in long.values()) <= 5000
    assert "sesame" not in str(long)
    assert "udc80" in surrogate["text"]
    assert unspeakable["error"] == "Unspeakable"


# Everything else


class Busy(Shown):
    name = "busy"

    @event_handler("sold", retries=0)
    def on_sold(self, body: int) -> None:
        if body < 0:
            raise ValueError(body)
        self.gate.wait(LIMIT)

    def tick(self):
        raise ValueError("redis://:sesame@host")


def test_events_are_told_by_handler_with_what_waits_and_what_is_dead(tmp_path, monkeypatch):
    monkeypatch.setattr("gemstone_sync.service.status._KEPT", 0.0)
    service = Busy()
    service.event_transports = [MemoryEventTransport()]
    service.outbox = Outbox(tmp_path / "outbox.db")
    with ServiceClient(service) as client:
        service.emit_event("sold", -1)
        wait_until(lambda: status(client)["errors"], "the failure")
        service.emit_event("sold", 1)
        wait_until(lambda: status(client)["in_flight"], "the handler")
        told = status(client)
        [running] = told["in_flight"]
        assert running["handler"] == "Busy.on_sold"
        assert "on_sold at " in running["stack"][-1]
        [error] = told["errors"]
        assert (error["handler"], error["error"]) == ("Busy.on_sold", "ValueError")
        service.gate.set()
        wait_until(lambda: status(client)["handlers"][0]["calls"] == 2, "the end")
        assert status(client)["handlers"][0]["errors"] == 1

        def is_over(told):
            events = told["events"]["value"] or {}
            dead, waits = ({*events.get(key, {}).values()} for key in ("dead_letters", "backlog"))
            return told["outbox"]["time"] and (dead, waits) == ({1}, {0}) and told

        told = wait_until(lambda: is_over(status(client)), "the dead letter, and no other")
        assert set(told["events"]["value"]["backlog"].values()) == {0}
        outbox = {"pending": 0, "oldest": None, "refused": 0}
        assert (told["outbox"]["value"], told["outbox"]["failure"]) == (outbox, None)


def test_periodic_tasks_tell_the_last_run_and_the_next():
    service = Busy()
    service.periodic_tasks = [(service.tick, 0.2), (service.tick, 3600)]
    with ServiceClient(service) as client:
        wait_until(lambda: status(client)["periodic"][0]["last"], "a run")
        told = status(client)
        ran, waits = told["periodic"]
        assert (ran["name"], ran["every"], ran["running"]) == ("Busy.tick", 0.2, False)
        assert ran["failure"] == "ValueError: redis://:********@host"
        assert ran["last"] <= told["time"]
        assert (waits["last"], waits["failure"]) == (None, None)
        assert told["time"] < waits["next"] <= told["time"] + 3600
    assert service._assemble().periodic.runs() == []


def test_the_configuration_is_what_gemstone_config_shows(client):
    told = {each["name"]: each for each in status(client)["configuration"]}
    assert told["secret_key"]["value"] == MASK
    assert told["status_page"] == {"name": "status_page", "value": "true", "source": "class Shown"}
    assert [*told.values()] == [each._asdict() for each in client.service.get_settings()]
    assert "sesame" not in json.dumps(status(client))


def test_what_does_not_answer_holds_no_page_back(monkeypatch):
    service = Busy()
    asked, answer = [], Event()

    class Slow(MemoryEventTransport):
        def backlog(self, timeout):
            asked.append(1)
            answer.wait(LIMIT)
            return {"q": 5}

    monkeypatch.setattr("gemstone_sync.service.status._PATIENCE", 0.01)
    monkeypatch.setattr("gemstone_sync.service.status._KEPT", 0.0)
    service.event_transports = [Slow()]
    with ServiceClient(service) as client:
        for _ in range(3):
            assert status(client)["events"]["value"] is None
        assert asked == [1]  # one after the other, whoever looks
        answer.set()
        wait_until(lambda: status(client)["events"]["value"], "the answer")
        Slow.backlog = lambda self, timeout: 1 / 0
        failure = wait_until(lambda: status(client)["events"]["failure"], "the failure")
        assert failure.startswith("ZeroDivisionError")


def test_health_is_that_of_the_health_paths():
    class Checked(Shown):
        name = "checked"

        @health_check("disk")
        def disk(self):
            return float("nan")

        @health_check("mail")
        def mail(self):
            raise ValueError("redis://:sesame@host")

    with ServiceClient(Checked()) as client:
        told = status(client)
    [worker] = told["workers"]
    [disk], [mail] = (worker["health"]["value"]["checks"][name] for name in ("disk", "mail"))
    assert (disk["status"], disk.get("observedValue")) == ("pass", None)
    assert (mail["status"], mail["output"]) == ("fail", "ValueError: redis://:********@host")
    assert told["status"] == "fail"


def test_registries_tell_how_they_take_it(running_service):
    service = Shown()
    service.service_registry_urls = ["http://ada:sesame@127.0.0.1:9/api"]
    running_service(service)
    client = service.app.test_client()

    def registries():
        return client.get("/status", headers=JSON).get_json()["registries"]

    [told] = wait_until(registries, "the first ping")
    assert told["status"] == "warn"
    assert "sesame" not in json.dumps(told)


def test_blocks_are_kept_with_their_time_and_told_while_they_last(client, monkeypatch):
    blocks = Blocks()
    monkeypatch.setattr(counting, "blocks", blocks)
    for number in range(30):
        blocks.add("a", f"held {number} by connect('redis://:sesame@host')", 0.5)
    told = status(client)
    shown = [f"held {n} by connect('redis://:{MASK}@host')" for n in range(29, 9, -1)]
    assert [each["text"] for each in told["blocks"]] == shown
    times = [each["time"] for each in told["blocks"]]
    assert times == sorted(times, reverse=True)
    [worker] = told["workers"]
    assert worker["held_by"] == shown[0]
    assert worker["held_for"] >= 0.5
    blocks.holding = None
    assert status(client)["workers"][0]["held_by"] is None
