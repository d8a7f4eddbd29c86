"""What a service tells of itself: specifications, configuration, statistics."""

import json
import subprocess
import sys
from typing import Any

import gevent
import pytest

import gemstone_sync
from gemstone_sync import InvalidParams, MethodNotFound, MicroService
from gemstone_sync.dispatch import log_throttle
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.waiting import LIMIT


class Described(MicroService):
    name = "described"
    port = 4000
    accessible_at = "http://example.org/api"

    @gemstone_sync.exposed_method("users.count")
    def count(self, group: str = "") -> int:
        """How many users."""
        return len(group)

    @gemstone_sync.exposed_method(private=True)
    def silent(self) -> None: ...


# get_service_specs


def test_the_specifications_have_exactly_the_documented_fields():
    specs = ServiceClient(Described()).call("get_service_specs")

    assert list(specs) == [
        "host",
        "port",
        "accessible_at",
        "name",
        "max_parallel_blocking_tasks",
        "methods",
        "event_transports",
        "events_handled",
    ]
    assert specs["methods"].pop("get_service_specs").strip()
    assert specs == {
        "host": "127.0.0.1",
        "port": 4000,
        "accessible_at": "http://example.org/api",
        "name": "described",
        "max_parallel_blocking_tasks": 1000,
        "methods": {"users.count": "How many users.", "silent": None},
        "event_transports": [],
        "events_handled": {},
    }


def test_a_running_service_tells_its_real_port():
    with running_service(Described, accessible_at=None) as service:
        specs = ServiceClient(service).call("get_service_specs")
    assert specs["port"] == service.port != 0
    assert specs["accessible_at"] == f"http://127.0.0.1:{service.port}/api"


# get_current_configuration


def test_the_configuration_has_exactly_the_documented_fields():
    def view() -> str:
        return ""

    class Service(Described):
        extra_handlers = [("/x", view)]
        static_dirs = [("/static", "/srv/www")]
        service_registry_urls = ["http://127.0.0.1:1/api"]

    found = Service().get_current_configuration()
    (handler,) = found["webapp"].pop("extra_handlers")

    assert "/x" in handler
    assert found == {
        "name": "described",
        "host": "127.0.0.1",
        "port": 4000,
        "endpoint": "/api",
        "accessible_at": "http://example.org/api",
        "autodiscovery": {
            "service_registry_urls": ["http://127.0.0.1:1/api"],
            "service_registry_ping_interval": 30,
        },
        "max_parallel_blocking_tasks": 1000,
        "webapp": {"template_dir": ".", "static_dirs": [("/static", "/srv/www")]},
        "event": {"event_transports": []},
        "configuration": {
            "configurables": [
                "<Configurable name=port>",
                "<Configurable name=host>",
                "<Configurable name=accessible_at>",
                "<Configurable name=endpoint>",
            ],
            "configurators": ["<CommandLineConfigurator>"],
        },
    }


def test_the_configuration_is_json_without_secrets_and_a_copy(make_client):
    def configuration(self: Any) -> Any:
        return self.get_current_configuration()

    urls = ["http://ada:s3cret@registry/api"]
    client = make_client(configuration, secret_key="s3cret", service_registry_urls=urls)

    assert "s3cret" not in str(client.call("configuration"))
    assert client.service.service_registry_urls == urls
    found = client.service.get_current_configuration()
    found["autodiscovery"]["service_registry_urls"].append("x")
    assert client.service.service_registry_urls == ["http://ada:s3cret@registry/api"]
    assert MicroService.service_registry_urls == []


# statistics


class Counted(MicroService):
    name = "counted"
    use_statistics = True

    @gemstone_sync.exposed_method()
    def nap(self, milliseconds: int) -> None:
        gevent.sleep(milliseconds / 1000)

    @gemstone_sync.exposed_method()
    def fail(self) -> None:
        raise ValueError


def test_statistics_count_calls_errors_and_durations_by_method():
    client = ServiceClient(Counted())
    for milliseconds in [1] * 18 + [100, 200]:
        client.call("nap", milliseconds)
    with pytest.raises(InvalidParams):
        client.call("nap", "long")
    with pytest.raises(gemstone_sync.InternalError):
        client.call("fail")
    methods = client.call("statistics")["methods"]

    assert list(methods["nap"]) == ["calls", "errors", "mean", "max", "p50", "p95", "p99"]
    nap = methods["nap"]
    assert (nap["calls"], nap["errors"]) == (21, 1)
    assert (methods["fail"]["calls"], methods["fail"]["errors"]) == (1, 1)
    assert nap["p50"] < 0.1 <= nap["p95"] <= nap["p99"] <= nap["max"]
    assert nap["max"] >= 0.2
    assert (0.1 + 0.2) / 21 < nap["mean"] < nap["max"]


def test_notifications_and_batch_items_are_counted_and_unknown_names_are_not():
    client = ServiceClient(Counted())
    client.notify("nap", 0)
    client.post(
        b'[{"jsonrpc":"2.0","method":"nap","params":[0],"id":1},'
        b'{"jsonrpc":"2.0","method":"nap","params":[0]}]'
    )
    with pytest.raises(MethodNotFound):
        client.call("x" * 1000)

    methods = client.call("statistics")["methods"]
    assert methods.pop("nap")["calls"] == 3
    assert set(methods) <= {"statistics"}
    other = ServiceClient(Counted())
    statistics = other.call("statistics")
    assert statistics["methods"] == {}  # two instances count apart
    assert statistics["uptime"] >= 0
    assert "errors" in other.call("get_service_specs")["methods"]["statistics"]


def test_without_use_statistics_there_is_no_such_method():
    with pytest.raises(MethodNotFound):
        ServiceClient(Described()).call("statistics")


# Who is told what


class Guarded(MicroService):
    name = "guarded"
    event_transports = [
        gemstone_sync.RabbitMqEventTransport("rabbit-host"),
        gemstone_sync.RedisEventTransport("redis://redis-host"),
    ]

    @gemstone_sync.exposed_method(private=True)
    def payroll(self, who: str = "ada") -> None:
        """What people earn."""

    @gemstone_sync.exposed_method()
    def plain(self) -> Any:
        """What everybody may know."""
        return self.get_service_specs(signatures=True)

    def api_token_is_valid(self, api_token: str) -> bool:
        return api_token == "good"


@pytest.mark.parametrize("method", ["get_service_specs", "plain"])
@pytest.mark.parametrize("token", [None, "bad"])
def test_private_docstrings_and_brokers_are_not_told_to_everybody(method, token):
    params = [True] if method == "get_service_specs" else []
    authentication = None if token is None else gemstone_sync.HeaderToken(token)
    with running_service(Guarded, event_transports=Guarded.event_transports[:0]) as service:
        service.event_transports = Guarded.event_transports  # told of, never connected
        with gemstone_sync.RemoteService(
            service.url, authentication_method=authentication
        ) as client:
            specs = client.call_method(method, params).value()
    assert specs["methods"]["payroll"] is None
    assert specs["methods"]["plain"] == "What everybody may know."
    assert specs["event_transports"] == ["RabbitMqEventTransport", "RedisEventTransport"]
    assert set(specs["signatures"]) == {"get_service_specs", "plain"}


def test_whom_the_service_lets_in_is_told_everything_in_a_batch_too():
    client = ServiceClient(Guarded(), headers={"X-Api-Token": "good"})
    request = {"jsonrpc": "2.0", "id": 1, "method": "get_service_specs", "params": [True]}
    batch = json.loads(client.post(json.dumps([request] * 2).encode()).body)
    for specs in [client.call("get_service_specs", True), batch[1]["result"]]:
        assert specs["methods"]["payroll"] == "What people earn."
        assert "rabbit-host" in str(specs["event_transports"])
        assert specs["signatures"]["payroll"] == "payroll(who: str = 'ada') -> None"


def test_the_program_itself_is_told_everything():
    assert "redis-host" in str(Guarded().get_service_specs())


@pytest.mark.parametrize(
    ("fault", "lines"), [(OSError("no directory"), 1), (gemstone_sync.AccessDenied(), 0)]
)
def test_where_authenticating_fails_nobody_is_let_in_and_the_log_is_not_flooded(
    fault, lines, caplog, monkeypatch
):
    # What is told once a second: a machine that stands still for one would have it told again.
    monkeypatch.setattr(log_throttle, "_LINE", LIMIT)

    class Broken(Guarded):
        def authenticate_request(self, handler: Any) -> Any:
            raise fault

    client = ServiceClient(Broken(), headers={"X-Api-Token": "good"})
    for _ in range(5):
        assert client.call("get_service_specs")["methods"]["payroll"] is None
    assert [record.getMessage() for record in caplog.records] == ["authenticating failed"] * lines


def test_a_service_that_nobody_asks_has_no_writers_of_documents_in_memory():
    program = """if True:
        import sys
        from gemstone_sync import MicroService, exposed_method

        class Shop(MicroService):
            name = "shop"

            @exposed_method()
            def buy(self, what: list[str]) -> int:
                return len(what)

        app = Shop().app
        writers = "builder", "schemas", "openrpc", "asyncapi", "docstrings", "clients", "diff"
        print([each for each in writers if f"gemstone_sync.contract.{each}" in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.strip() == "[]", done.stderr
