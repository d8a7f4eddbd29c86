"""The page of metrics: what is counted, under which names, and that nobody can make it grow."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import prometheus_client
import pytest
from opentelemetry.semconv._incubating.attributes import messaging_attributes, rpc_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics, rpc_metrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gemstone_sync import (
    DeadlineExceeded,
    EventEmitter,
    MemoryEventTransport,
    MethodCall,
    MicroService,
    Outbox,
    RemoteError,
    RemoteService,
    ServiceConfigurationError,
    TransportError,
    event_handler,
    exposed_method,
    health_check,
    periodic,
)
from gemstone_sync.client import observed as requests
from gemstone_sync.event import observed as events
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.ops import metrics as ours
from gemstone_sync.ops import prometheus
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.http import call, exchange, message, result_of
from tests.support.machine import absent
from tests.support.waiting import wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

ORDERS = prometheus_client.Counter("test_orders", "Orders.", ["kind"])


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def page(client: Any) -> str:
    reply = client.request("GET", "/metrics")
    assert reply.status == 200
    return str(reply.body.decode())


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of all that have these labels."""
    return sum(
        number
        for (known, pairs), number in found.items()
        if known == name and labels.items() <= dict(pairs).items()
    )


class Counted(MicroService):
    """Each test counts under a name of its own."""

    name = "counted"
    metrics = True
    event_transports = [MemoryEventTransport()]

    @exposed_method()
    def buy(self, item: str) -> str:
        ORDERS.labels(item).inc()
        return {"tea": "paid"}[item]

    @exposed_method(timeout=0.01)
    def wait(self) -> None:
        time.sleep(5)

    @exposed_method()
    def burn(self) -> None:
        end = time.thread_time() + 0.5  # of a processor: others may have it meanwhile
        while time.thread_time() < end:
            pass

    @exposed_method()
    def emit(self, name: str, body: Any = 1) -> str:
        return self.emit_event(name, body)

    @event_handler("bought", retries=1, backoff=0.01)
    def bought(self, body: int) -> None:
        if body < 0:
            raise ValueError(body)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[ServiceClient]:
    cls = type("Counted", (Counted,), {"name": request.node.name[:60]})
    cls.event_transports = [MemoryEventTransport()]
    with ServiceClient(cls()) as found:
        yield found


CALLS = "rpc_server_call_duration_seconds"


def test_calls_are_counted_by_method_and_error(client):
    for item in ["tea", "tea", "milk"]:
        if item == "tea":
            client.call("buy", item)
        else:
            with pytest.raises(RemoteError):
                client.call("buy", item)
    with pytest.raises(RemoteError):
        client.call("buy")
    with pytest.raises(RemoteError):
        client.call("wait")
    found = samples(page(client))
    count, le = f"{CALLS}_count", f"{CALLS}_bucket"
    assert value(found, count, rpc_method="buy", error_type="") == 2
    assert value(found, count, rpc_method="buy", error_type="-32603") == 1
    assert value(found, count, rpc_method="buy", error_type="-32602") == 1
    assert value(found, count, rpc_method="wait", error_type=str(DeadlineExceeded.code)) == 1
    assert value(found, "gemstone_deadlines_missed_total", rpc_method="wait") == 1
    assert value(found, le, rpc_method="wait", le="0.005") == 0
    assert value(found, le, rpc_method="wait", le="+Inf") == 1
    assert value(found, f"{CALLS}_sum", rpc_method="wait") > 0.009


def test_ten_thousand_unknown_names_are_one_series(client):
    before = len(page(client))
    for start in range(0, 10_000, 100):
        calls = [{"jsonrpc": "2.0", "id": n, "method": f"m{start + n}"} for n in range(100)]
        client.post(json.dumps(calls).encode())
    text = page(client)
    assert value(samples(text), f"{CALLS}_count", rpc_method="_OTHER") == 10_000
    assert value(samples(text), "gemstone_calls_refused_total", error_type="-32601") == 10_000
    assert value(samples(text), "gemstone_batch_size_sum") == 10_000
    assert len(text) < before + 5_000


def test_names_that_only_a_caller_knows_are_bounded_elsewhere_too(client, monkeypatch):
    monkeypatch.setattr(ours, "_MOST", 20)
    sent = "messaging_client_sent_messages_total"
    before = value(samples(page(client)), sent)
    for number in range(100):
        client.call("emit", f"never.{number}")
    found = samples(page(client))
    assert value(found, sent) == before + 100
    names = {dict(pairs)["messaging_destination_name"] for name, pairs in found if name == sent}
    assert "_OTHER" in names
    assert len(names) <= 21


def test_events_are_counted_when_they_are_emitted_handled_tried_again_and_buried(client):
    def counted(name: str, **labels: str) -> float:
        return value(samples(page(client)), name, **labels)

    emitted = {"messaging_destination_name": "bought"}
    before = counted("messaging_client_sent_messages_total", **emitted)
    client.call("emit", "bought")
    client.call("emit", "bought", -1)
    buried = "gemstone_event_dead_letters_total"
    wait_until(lambda: counted(buried, reason="failed") == 1, "a dead letter")
    handled = "messaging_process_duration_seconds_count"
    group = {"messaging_consumer_group_name": client.service.name}
    wait_until(lambda: counted(handled, **group) == 3, "what is counted once it was buried")
    assert counted("messaging_client_sent_messages_total", **emitted) == before + 2
    assert counted("gemstone_event_retries_total", **emitted) == 1
    assert counted(handled, error_type="", messaging_system="memory", **emitted) == 1
    assert counted(handled, error_type="ValueError", **emitted) == 2
    assert counted(handled, **group) == 3


def test_what_is_called_elsewhere_is_counted_by_method_and_error():
    calls = "rpc_client_call_duration_seconds_count"
    with running_service(type("Other", (Counted,), {"name": "client side"})) as service:
        shop = RemoteService(service.url)
        watching = ServiceClient(service)
        before = samples(page(watching))
        shop.methods.buy("tea")
        shop.call_method("buy", ["milk"])
        shop.notifications.buy("tea")
        shop.call_batch(MethodCall("buy", ["tea"]))
        with pytest.raises(TransportError):
            RemoteService("http://127.0.0.1:1/api").methods.buy("tea")
        after = samples(page(watching))

        def more(**labels: str) -> float:
            return value(after, calls, **labels) - value(before, calls, **labels)

        assert more(rpc_method="buy", error_type="") == 2
        assert more(rpc_method="buy", error_type="-32603") == 1
        assert more(rpc_method="buy", error_type="ConnectionFailed") == 1
        assert more(rpc_method="", error_type="") == 1


def test_two_services_of_one_process_count_what_it_sends_once(client):
    with ServiceClient(type("Beside", (Counted,), {"name": "beside"})()) as beside:
        sent, name = "messaging_client_sent_messages_total", "sent.once"
        client.call("emit", name)
        for page_of in (client, beside):
            assert value(samples(page(page_of)), sent, messaging_destination_name=name) == 1
        assert value(samples(page(beside)), f"{CALLS}_count", rpc_method="emit") == 0


def test_nobody_is_told_once_the_service_has_stopped(client):
    assert requests.hooks() is not None
    assert events.hooks() is not None
    client.service.stop()
    assert requests.hooks() is None
    assert events.hooks() is None


def test_what_waits_is_told(client, tmp_path):
    client.call("emit", "bought")
    found = samples(page(client))
    queues = {dict(pairs)["queue"] for name, pairs in found if name == "gemstone_event_backlog"}
    assert "gemstone:1:dead" in queues
    assert any("bought" in queue for queue in queues)


def test_clocks_that_jump_do_not_keep_a_backlog_from_being_asked(client, monkeypatch):
    monkeypatch.setattr(ours, "_ASKING", 0.0)
    page(client)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    client.service.event_transports[0].backlog = lambda timeout: {"it": 7}
    assert value(samples(page(client)), "gemstone_event_backlog", queue="it") == 7


class Clocked(Counted):
    """Everything that looks at a clock."""

    use_statistics = True
    slow_call_seconds = 30.0
    looks = 0

    @periodic(0.01)
    def look(self) -> None:
        self.looks += 1

    @health_check("clock", every=0.01)
    def check(self) -> bool:
        return True


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0, -1e9, 1e9])
def test_a_clock_that_is_set_costs_no_call_and_changes_no_duration(monkeypatch, caplog, step):
    real = time.time
    transport = MemoryEventTransport()
    cls = type("Clocked", (Clocked,), {"name": f"clocked {step}"})
    with running_service(cls, event_transports=[transport]) as service:
        shop = RemoteService(service.url)
        shop.methods.buy("tea")
        monkeypatch.setattr(time, "time", lambda: real() + step)
        for _ in range(3):
            shop.methods.buy("tea")
            shop.methods.emit("bought")
            with pytest.raises(DeadlineExceeded):
                shop.methods.wait()
        looks = service.looks
        wait_until(lambda: service.looks > looks + 3, "the periodic task")
        assert transport.drain(10)
        ready = exchange(service.port, message("GET", "/health/ready"))
        found = samples(exchange(service.port, message("GET", "/metrics")).body.decode())
    assert ready.status == 200
    calls, handled = f"{CALLS}_sum", "messaging_process_duration_seconds"
    group = {"messaging_consumer_group_name": service.name}
    assert value(found, f"{CALLS}_count", rpc_method="buy", error_type="") == 4
    assert value(found, f"{CALLS}_count", rpc_method="wait") == 3
    assert value(found, f"{handled}_count", **group) == 3
    assert 0 < value(found, calls) < 60
    assert 0 < value(found, f"{handled}_sum", **group) < 60
    assert "took" not in caplog.text


def test_brokers_are_asked_once_in_fifteen_seconds_however_often_the_page_is(client):
    asked: list[float] = []
    client.service.event_transports[0].backlog = lambda timeout: asked.append(timeout) or {"q": 1}
    for _ in range(5):
        page(client)
    assert len(asked) == 1


def test_the_outbox_tells_its_size_and_age(tmp_path):
    class Storing(Counted):
        name = "storing"
        event_transports = [MemoryEventTransport()]
        outbox = str(tmp_path / "outbox.db")

    service = Storing()
    outbox = Outbox(str(tmp_path / "outbox.db"))  # of another process: nobody sends
    client = ServiceClient(service)
    outbox.add([make_envelope("bought", 1), make_envelope("bought", 2)])
    found = samples(page(client))
    assert value(found, "gemstone_outbox_events") == 2
    assert 0 < value(found, "gemstone_outbox_age_seconds") < 60
    outbox.stop(1)


def test_the_process_and_the_service_are_described(client):
    found = samples(page(client))
    assert value(found, "target_info", service_name=client.service.name) == 1
    for name in ["gemstone_greenlets", "gemstone_connections", "gemstone_calls_in_flight"]:
        (pairs,) = [dict(pairs) for known, pairs in found if known == name]
        assert pairs.keys() == {"pid"}
    wait_until(lambda: value(samples(page(client)), "gemstone_hub_lag_seconds_count") > 0, "lag")


def test_the_lag_is_told_where_nobody_wants_to_hear_of_blocks():
    with running_service(Counted, blocked_after=None) as service:

        def looks() -> float:
            found = samples(exchange(service.port, message("GET", "/metrics")).body.decode())
            return value(found, "gemstone_hub_lag_seconds_count")

        before = looks()
        wait_until(lambda: looks() > before, "a look at the hub")


def test_what_held_the_hub_is_counted_once_by_its_name():
    with running_service(Counted, blocked_after=0.1) as service:

        def counted(name: str, **labels: str) -> float:
            found = samples(exchange(service.port, message("GET", "/metrics")).body.decode())
            return value(found, name, **labels)

        blocked, lag = "gemstone_hub_blocked_total", "gemstone_hub_lag_seconds_count"
        before = counted(blocked, held_by="burn")
        result_of(call(service.port, "burn"))
        looks = counted(lag)
        wait_until(lambda: counted(lag) >= looks + 3, "looks at the hub behind the block")
        assert counted(blocked, held_by="burn") == before + 1


def test_the_programs_own_metrics_stand_on_the_page(client):
    client.call("buy", "tea")
    assert value(samples(page(client)), "test_orders_total", kind="tea") >= 1
    assert "process_cpu_seconds_total" in page(client)


def test_a_broken_collector_of_the_users_keeps_no_metric_away(client, caplog):
    class Broken:
        def collect(self) -> Any:
            raise RuntimeError("broken")

        def describe(self) -> list[Any]:
            return []

    broken: Any = Broken()
    prometheus_client.REGISTRY.register(broken)
    try:
        assert CALLS in page(client) or page(client)
        page(client)
    finally:
        prometheus_client.REGISTRY.unregister(broken)
    assert caplog.text.count("cannot be collected") == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain; version=1.x", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=\xb2", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_it_answers_in_both_formats(client, accept, content_type):
    client.call("buy", "tea")
    headers = {} if accept is None else {"Accept": accept}
    reply = client.request("GET", "/metrics", headers=headers)
    assert reply.headers["Content-Type"].startswith(content_type)
    assert reply.headers["Cache-Control"] == "no-store"
    if accept and "openmetrics" in accept:
        assert [*open_metrics_families(reply.body.decode())]
    assert client.request("POST", "/metrics").status == 405


def test_names_are_those_of_the_conventions(client):
    """Prometheus writes dots as underscores, and the unit behind the name."""
    client.call("buy", "tea")
    client.call("emit", "bought")
    wait_until(lambda: "messaging_process" in page(client), "an event")
    found = samples(page(client))
    names = {name for name, _ in found}
    for metric in [
        rpc_metrics.RPC_SERVER_CALL_DURATION,
        messaging_metrics.MESSAGING_CLIENT_OPERATION_DURATION,
        messaging_metrics.MESSAGING_PROCESS_DURATION,
    ]:
        assert f"{metric.replace('.', '_')}_seconds_count" in names
    assert f"{messaging_metrics.MESSAGING_CLIENT_SENT_MESSAGES.replace('.', '_')}_total" in names
    known = {
        value.replace(".", "_")
        for module in (rpc_attributes, messaging_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    } | {"error_type", "le"}
    for name, pairs in found:
        if name.startswith(("rpc_", "messaging_")):
            assert dict(pairs).keys() <= known, name
    assert rpc_metrics.RPC_CLIENT_CALL_DURATION == "rpc.client.call.duration"
    bounds = [
        dict(pairs)["le"]
        for name, pairs in found
        if name == f"{CALLS}_bucket" and dict(pairs)["rpc_method"] == "buy"
    ]
    assert [float(bound) for bound in bounds[:-1]] == [
        *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    ]


def test_promtool_has_nothing_against_the_page(client):
    """``apt install prometheus`` brings promtool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        absent("promtool is not installed: apt install prometheus")
    client.call("buy", "tea")
    client.call("emit", "bought")
    text = re.sub(r"(?m)^.*(test_orders|python_|process_|_created).*\n", "", page(client))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_path_can_be_set_and_taken_by_none():
    service = type("Elsewhere", (Counted,), {"metrics_path": "/internal/prom"})()
    client = ServiceClient(service)
    assert client.request("GET", "/internal/prom").status == 200
    assert client.request("GET", "/metrics").status == 404


def test_without_the_setting_there_is_no_page_and_nobody_observes():
    class Plain(Counted):
        metrics = False

    service = Plain()
    assert ServiceClient(service).request("GET", "/metrics").status == 404
    assert not service.dispatcher._is_observed


def test_without_the_library_the_start_says_what_to_install(monkeypatch):
    monkeypatch.setattr(prometheus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServiceConfigurationError, match=r"pip install 'gemstone_sync\[metrics\]'"):
        Counted().app  # noqa: B018


def test_an_emitter_of_the_same_process_is_counted(client):
    sent = "messaging_client_sent_messages_total"
    labels = {"messaging_destination_name": "from.emitter"}
    with EventEmitter(MemoryEventTransport()) as emitter:
        emitter.emit_event("from.emitter", 1)
        emitter.emit_events([("from.emitter", 1), ("from.emitter", 2)])
    assert value(samples(page(client)), sent, **labels) >= 3
