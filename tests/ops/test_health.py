"""Health checks of the user's: how often they run, what becomes of their answers."""

import time

import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync import MicroService, ServiceConfigurationError, exposed_method, health_check
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.ops import HealthCheck
from gemstone_sync.sqlite import file as sqlite
from gemstone_sync.testing import ServiceClient
from tests.support.http import exchange, message
from tests.support.sqlite import locked
from tests.support.waiting import LIMIT, wait_until


def checked(check):
    check.begin()
    return check.result()


class Counting:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.runs = 0

    def __call__(self):
        self.runs += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answer", "status", "value", "output"),
    [
        (True, "pass", None, None),
        (None, "pass", None, None),
        (0, "pass", 0, None),
        ("", "pass", "", None),
        ({"free": 3}, "pass", {"free": 3}, None),
        ("at postgres://ada:secret@db/", "pass", "at postgres://ada:********@db/", None),
        (object(), "pass", "object", None),
        (False, "fail", None, "returned False"),
        (
            OSError("postgres://ada:secret@db/ is away"),
            "fail",
            None,
            "OSError: postgres://ada:********@db/",
        ),
        (gevent.Timeout(1), "fail", None, "Timeout: "),
        (SystemExit(1), "fail", None, "SystemExit: 1"),
    ],
    ids=["yes", "nothing", "0", "empty", "dict", "url", "object", "no", "error", "timeout", "exit"],
)
def test_anything_but_false_or_an_exception_passes(answer, status, value, output):
    found = checked(HealthCheck("database", Counting(answer)))

    assert (found.status, found.value) == (status, value)
    assert output is None or found.output.startswith(output)
    assert "secret" not in str(found)


def test_it_runs_once_in_every_seconds_however_often_it_is_asked_for():
    function = Counting(1)
    check = HealthCheck("database", function, every=3600)
    begun = [gevent.spawn(checked, check) for _ in range(50)]
    gevent.joinall(begun, timeout=LIMIT)
    checked(check)

    assert function.runs == 1
    check._every = 0
    assert checked(check).value == 1
    assert function.runs == 2


def test_one_that_hangs_fails_in_time_and_never_runs_twice_at_once(caplog):
    started, running = 0, Event()

    def hang():
        nonlocal started
        started += 1
        while True:
            try:
                gevent.sleep(LIMIT)
            except gevent.GreenletExit:
                running.set()  # it does not even let itself be ended

    check = HealthCheck("database", hang, timeout=0.05, every=0.01)
    first = checked(check)
    assert (first.status, first.output) == ("fail", "timed out")
    assert running.wait(LIMIT)
    for _ in range(3):
        assert checked(check).output == "timed out"
    assert started == 1
    told = [r.getMessage() for r in caplog.records if "database" in r.getMessage()]
    assert told == ["health check 'database' fails: timed out"]
    check._running.kill(block=False)


def test_a_clock_that_is_set_back_or_forward_changes_nothing(monkeypatch):
    function = Counting(1)
    check = HealthCheck("database", function, every=3600)
    checked(check)
    for moment in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert checked(check).value == 1
    assert function.runs == 1


def test_the_log_hears_of_each_change_once(caplog):
    caplog.set_level("INFO")
    check = HealthCheck("database", Counting(1, OSError("a\nway"), OSError("away"), 2), every=1e-9)
    for _ in range(5):
        checked(check)

    assert [record.getMessage() for record in caplog.records] == [
        "health check 'database' fails: OSError: a\\nway",
        "health check 'database' passes again",
    ]


# At a service


class Shop(MicroService):
    name = "shop"
    version = "1.2.3"
    port = 0
    answer = 0.25

    @health_check("database", timeout=0.2, every=0.001)
    def database(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    @exposed_method()
    def sell(self):
        return 1


def health(service, path="/health/ready"):
    reply = exchange(service.port, message("GET", path))
    return reply.status, reply.json


def test_the_document_has_the_checks_by_component(running_service):
    status, told = health(running_service(Shop))

    (database,) = told["checks"]["database"]
    assert (status, told["status"], told["version"]) == (200, "pass", "1.2.3")
    assert (database["status"], database["observedValue"]) == ("pass", 0.25)
    assert database["time"].endswith("Z")


def test_a_failed_check_makes_the_service_not_ready_and_never_not_live(running_service):
    service = running_service(Shop)
    service.answer = ConnectionError("refused")
    wait_until(lambda: health(service)[0] == 503, "the check")
    status, told = health(service)

    assert (status, told["status"], told["output"]) == (503, "fail", "ConnectionError: refused")
    assert health(service, "/health/live")[0] == health(service, "/health/startup")[0] == 200
    service.answer = 1
    wait_until(lambda: health(service)[0] == 200, "the check")


def test_a_broker_periodic_tasks_and_registries_report_themselves(running_service):
    ran = Event()

    class Working(Shop):
        event_transports = [gemstone_sync.MemoryEventTransport()]
        service_registry_urls = ["http://127.0.0.1:9/api"]

        @gemstone_sync.periodic(0.01)
        def tidy(self):
            ran.set()
            raise ValueError("no broom")

        @gemstone_sync.event_handler("sold")
        def on_sold(self, body): ...

    service = running_service(Working)
    assert ran.wait(LIMIT)

    def all_told():
        return {"periodic:lastRun", "registry:registration"} <= health(service)[1]["checks"].keys()

    wait_until(all_told, "all components")
    status, told = health(service)
    assert (status, told["status"]) == (200, "warn")  # it is of use without them
    checks = told["checks"]
    assert checks["broker:publishing"][0]["status"] == "pass"
    assert checks["broker:receiving"][0]["status"] == "pass"
    (tidy,) = checks["periodic:lastRun"]
    assert (tidy["status"], tidy["output"]) == ("warn", "ValueError: no broom")
    assert tidy["observedUnit"] == "s"
    assert checks["registry:registration"][0]["status"] == "warn"


def test_an_outbox_whose_database_is_away_warns(running_service, tmp_path, monkeypatch):
    path = tmp_path / "events.db"
    outbox = gemstone_sync.Outbox(str(path))
    outbox.add([make_envelope("sold", 1)])

    def sending():
        (told,) = health(service)[1]["checks"]["outbox:sending"]
        return told["status"], told.get("output")

    with monkeypatch.context() as patched, locked(path):
        patched.setattr(sqlite, "BUSY", 0.1)
        transports = [gemstone_sync.MemoryEventTransport()]
        service = running_service(Shop, outbox=outbox, event_transports=transports)
        wait_until(lambda: sending()[0] == "warn", "a warning")
        assert "is locked" in sending()[1]
        assert health(service)[0] == 200
    wait_until(lambda: sending() == ("pass", None), "the end of it")


def test_startup_passes_once_the_start_hooks_are_through(running_service):
    class Slow(Shop):
        def on_service_start(self):
            self.early = health(self, "/health/startup")

    service = running_service(Slow)
    assert service.early[0] == 503
    assert health(service, "/health/startup")[0] == 200


def test_a_part_that_cannot_tell_how_it_is_fails(running_service):
    service = running_service(Shop)
    service._assemble().health._components = [lambda: 1 / 0]

    assert health(service)[1]["checks"]["service"][0]["output"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: health_check(len), TypeError, "with the name of what it checks"),
        (lambda: health_check(""), ValueError, "a text"),
        (lambda: health_check("a", timeout=0), ValueError, "timeout is a number"),
        (lambda: health_check("a", every=True), ValueError, "every is a number"),
        (lambda: health_check("a", evry=1), TypeError, "did you mean 'every'"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_checks_that_cannot_work_are_refused_at_the_start():
    class Asking(Shop):
        @health_check("queue")
        def queue(self, which): ...

    class Twice(Shop):
        @health_check("database")
        def again(self): ...

    for cls, text in ((Asking, "takes nothing besides self"), (Twice, "have the name 'database'")):
        with pytest.raises(ServiceConfigurationError, match=text):
            ServiceClient(cls()).call("sell")
