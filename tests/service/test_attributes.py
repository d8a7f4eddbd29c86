"""The attributes of a service: defaults, clear refusals, and no two services that share one."""

import enum
from pathlib import Path
from typing import Any, ClassVar, Literal

import flask
import pytest

import gemstone_sync
from gemstone_sync import Configurable, MicroService, ServiceConfigurationError
from gemstone_sync.config import Seconds
from gemstone_sync.config.declaration import declarations_of
from gemstone_sync.service import assembly
from gemstone_sync.service.assembly import FROZEN
from gemstone_sync.testing import ServiceClient

#: The attributes that the documentation of gemstone 0.10.1 names, and their defaults there.
DOCUMENTED = {
    "name": None,
    "host": "127.0.0.1",
    "port": 8000,
    "endpoint": "/api",
    "accessible_at": None,
    "event_transports": [],
    "skip_configuration": False,
    "extra_handlers": [],
    "template_dir": ".",
    "static_dirs": [],
    "periodic_tasks": [],
    "service_registry_urls": [],
    "service_registry_ping_interval": 30,
    "discovery_strategies": [],
    "modules": [],
    "plugins": [],
    "use_statistics": False,
    "metrics": False,
    "metrics_path": "/metrics",
    "status_page": False,
    "status_path": "/status",
}


#: The limits that keep a service alive are on.
LIMITS = {
    "max_parallel_blocking_tasks": 1000,
    "max_waiting_calls": 200,
    "max_wait_seconds": 5.0,
    "max_batch_size": 100,
    "max_hops": 8,
    "max_body_size": 10_000_000,
    "max_response_size": 16_000_000,
    "default_timeout": 30.0,
    "max_connections": 2000,
    "debug": False,
}


def test_attributes_have_their_documented_defaults():
    defaults = {**DOCUMENTED, **LIMITS}
    assert {name: getattr(MicroService, name) for name in defaults} == defaults
    names = ("port", "host", "accessible_at", "endpoint")
    assert list(map(str, MicroService.configurables)) == [f"<Configurable name={n}>" for n in names]
    assert list(map(str, MicroService.configurators)) == ["<CommandLineConfigurator>"]
    (strategy,) = MicroService.validation_strategies
    assert isinstance(strategy, gemstone_sync.HeaderValidationStrategy)
    assert strategy.header == "X-Api-Token"


@pytest.mark.parametrize("name", [None, ""])
def test_a_service_without_a_name_is_refused_when_it_is_made(make_service, name):
    with pytest.raises(ServiceConfigurationError, match="TestService has no name: set its `name`"):
        make_service(name=name)


def test_a_constructor_that_forgets_the_base_class_is_told_so():
    class Forgetful(MicroService):
        name = "forgetful"

        def __init__(self) -> None:
            pass

    with pytest.raises(ServiceConfigurationError, match=r"must call super\(\).__init__\(\)"):
        Forgetful().start(block=False)
    with pytest.raises(AttributeError, match="Forgetful' object has no attribute 'wheel'"):
        _ = Forgetful().wheel


class Plugin(gemstone_sync.BasePlugin):
    name = "p"


WRONG: dict[str, list[Any]] = {
    "name": [5],
    "port": ["eight", "-1", "65536", "8000.0", -1, 65536, True],
    "host": ["", None, "[::]", "[::1]", "http://127.0.0.1", "127.0.0.1:80", "::1::", 7],
    "endpoint": ["api", None, "/health/live"],
    "accessible_at": [5],
    "max_parallel_blocking_tasks": [0, 1.5],
    "max_waiting_calls": [-1],
    "max_wait_seconds": ["5 parsecs", "", "nan", float("nan")],
    "default_timeout": [0, "0", "30\n40"],
    "max_batch_size": [0],
    "max_body_size": ["10MB"],
    "max_response_size": [-1],
    "max_hops": [None, "none", "3.0"],
    "max_connections": [0],
    "stop_timeout": [-1],
    "drain_delay": [-1],
    "drain_grace": [None],
    "batch_mode": ["random", ["parallel"]],
    "wire_format": ["xml", None, []],
    "debug": ["nope", 0],
    "use_statistics": ["", 1],
    "metrics": ["", 1],
    "metrics_path": ["metrics", None],
    "status_page": ["", 1],
    "status_path": ["status", None, "//status", "/a//b", "/<name>", "/a?b", "/a#b", "/a/\n//"],
    "workers": ["0", "two"],
    "skip_configuration": ["no"],
    "secret_key": [5],
    "allowed_hosts": [5, [5]],
    "allowed_origins": [5, None],
    "health_live_path": ["live"],
    "health_ready_path": [5],
    "template_dir": [None],
    "static_dirs": [["static"], [("static", "x")], [("/static",)]],
    "extra_handlers": [5, ["/x"], [("/x", 5)]],
    "blueprints": [[5]],
    "periodic_tasks": [[print], [(print, 0)], [("print", 1)]],
    "modules": [5, [print], [gemstone_sync.Module]],
    "plugins": [5, [print], [Plugin]],
    "validation_strategies": [
        gemstone_sync.HeaderValidationStrategy(),
        [gemstone_sync.HeaderValidationStrategy],
    ],
    "configurables": [["port"], 5],
    "configurators": [[gemstone_sync.CommandLineConfigurator]],
    "event_timeout": [0, "-10"],
    "service_registry_verify": [None, ""],
    "max_event_size": [0, 1.5],
    "event_deduplication": [5, ""],
    "outbox": [5, ""],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_attribute_is_refused_by_name_before_anything_listens(make_service, name):
    for value in WRONG[name]:
        with pytest.raises(ServiceConfigurationError) as caught:
            make_service(**{"port": 0, name: value}).start(block=False)
        assert name in str(caught.value) or repr(value) in str(caught.value)
        assert "\n" not in str(caught.value)


FINE: dict[str, list[Any]] = {
    "max_waiting_calls": [0],
    "max_wait_seconds": [0],
    "max_hops": [0],
    "default_timeout": [None, 0.5],
    "allowed_hosts": [[], None],
    "health_live_path": [None],
    "plugins": [()],
    "secret_key": [b"bytes"],
    "template_dir": ["data"],
}


def test_these_are_fine(make_service):
    for name, values in FINE.items():
        for value in values:
            make_service(**{name: value}).app  # noqa: B018


# Two instances share nothing


class Numbers(gemstone_sync.Module):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @gemstone_sync.exposed_method()
    def add(self, number: int) -> list[int]:
        self.seen.append(number)
        return self.seen

    @gemstone_sync.exposed_method()
    def owner(self) -> str:
        assert self.microservice is not None
        return self.microservice.host


class Counter(gemstone_sync.BasePlugin):
    name = "counter"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_method_call(self, jsonrpc_request: gemstone_sync.JsonRpcRequest) -> None:
        self.calls.append(jsonrpc_request.method)


class Shared(MicroService):
    name = "shared"
    modules = [Numbers()]
    plugins = [Counter()]


def test_two_instances_have_modules_and_plugins_of_their_own():
    first = Shared()
    first.host = "first"
    assert ServiceClient(first).call("add", 1) == [1]
    second = Shared()
    second.host = "second"

    assert ServiceClient(second).call("add", 2) == [2]
    assert ServiceClient(first).call("add", 3) == [1, 3]
    assert ServiceClient(first).call("owner") == "first"
    assert ServiceClient(second).call("owner") == "second"
    assert first.get_plugin("counter").calls == ["add", "add", "owner"]
    assert second.get_plugin("counter").calls == ["add", "owner"]
    assert first.get_plugin("counter").microservice is first
    assert second.get_plugin("counter").microservice is second


def test_whoever_made_a_module_sees_what_it_does(make_client):
    numbers, counter = Numbers(), Counter()
    make_client(modules=[numbers], plugins=[counter]).call("add", 5)
    assert numbers.seen == [5]
    assert counter.calls == ["add"]


def test_a_module_that_cannot_be_copied_says_so_only_when_a_copy_is_needed():
    class Locked(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.frames = (frame for frame in ())

    class Service(MicroService):
        name = "locked"
        modules = [Locked()]

    assert ServiceClient(Service()).call("add", 1) == [1]
    with pytest.raises(ServiceConfigurationError, match="Locked serves 'locked' already"):
        Service().app  # noqa: B018


def test_lists_of_the_class_are_never_changed():
    class Full(MicroService):
        name = "full"
        port = 0
        use_statistics = True
        modules = [Numbers()]
        plugins = [Counter()]
        periodic_tasks = [(print, 1000)]
        extra_handlers = [("/x", lambda: "x")]

        @gemstone_sync.periodic(1000)
        def tick(self) -> None: ...

        @gemstone_sync.route("/y")
        def y(self) -> str:
            return "y"

    names = [name for name in dir(MicroService) if isinstance(getattr(MicroService, name), list)]
    assert len(names) > 10
    before = {name: list(getattr(Full, name)) for name in names}
    of_base = {name: list(getattr(MicroService, name)) for name in names}
    service = Full()
    service.register_plugin(type("Other", (gemstone_sync.BasePlugin,), {"name": "other"})())
    service.configure(["--port", "0", "--endpoint", "/rpc"])
    service.start(block=False)
    service.stop()

    assert {name: getattr(Full, name) for name in names} == before
    assert {name: getattr(MicroService, name) for name in names} == of_base
    assert (Full.port, Full.endpoint, Full.accessible_at) == (0, "/api", None)
    with pytest.raises(gemstone_sync.PluginError):
        Full().get_plugin("other")


def test_what_is_set_on_one_instance_stays_there():
    first, second = Shared(), Shared()
    first.wire_format = "gemstone"
    reply = ServiceClient(first).post(b'{"jsonrpc":"2.0","method":"owner","id":1}')
    assert b'"error": null' in reply.body
    assert ServiceClient(second).call("owner") == "127.0.0.1"


def test_names_of_tornado_say_what_to_use(make_service):
    with pytest.raises(ServiceConfigurationError, match="use make_flask_app"):
        make_service().make_tornado_app()
    with pytest.warns(DeprecationWarning, match="io_loop has no meaning"):
        Shared(io_loop=object())


def test_the_documents_misspelling_of_the_registries_is_understood(make_service):
    with pytest.warns(DeprecationWarning, match="service_registry_urls"):
        service = make_service(service_registries_urls=["http://127.0.0.1:1/api"])
    assert service.service_registry_urls == ["http://127.0.0.1:1/api"]


TEXTS: dict[str, Any] = {
    "workers": ("1", 1),
    "max_hops": (" 3 ", 3),
    "max_wait_seconds": ("500ms", 0.5),
    "default_timeout": ("none", None),
    "stop_timeout": ("1m", 60),
    "debug": ("no", False),
    "access_log": ("True", True),
    "use_statistics": ("on", True),
    "service_registry_verify": ("false", False),
    "allowed_hosts": ("a.example, b.example", ["a.example", "b.example"]),
    "service_registry_urls": ("http://127.0.0.1:1/api", ["http://127.0.0.1:1/api"]),
    "trusted_proxies": ("10.0.0.0/8", ["10.0.0.0/8"]),
    "accessible_at": ("http://none/", "http://none/"),
    "endpoint": ("/8000", "/8000"),
}


def test_any_setting_may_be_a_text_as_an_option_is(make_service):
    """In a class and on an instance; what fits as it stands is left alone."""
    texts = {name: text for name, (text, _) in TEXTS.items()}
    from_class = type("Text", (Shared,), texts)()
    for service in (from_class, make_service(**texts)):
        _ = service.app
        assert {name: getattr(service, name) for name in TEXTS} == {
            name: value for name, (_, value) in TEXTS.items()
        }
    service.event_transports = "memory://"
    service.make_flask_app()
    assert [type(t) for t in service.event_transports] == [gemstone_sync.MemoryEventTransport]


def test_a_number_of_workers_may_be_a_text(make_service, capsys):
    with pytest.raises(ServiceConfigurationError, match="wants 2 workers"):
        gemstone_sync.run(make_service(workers="2", configurators=[]))
    with pytest.raises(SystemExit):
        gemstone_sync.run(make_service(workers="two", configurators=[]))
    assert "workers: must be" in capsys.readouterr().err
    for given in ("2", "two"):
        with pytest.raises(ServiceConfigurationError, match="workers"):
            make_service(configurators=[]).start(block=False, workers=given)


@pytest.mark.parametrize("given", ["0", " 0 ", "random"])
def test_a_port_may_be_a_text(running_service, given):
    """A text is taken as gemstone 0.10.1 took it, in a class and on an instance."""

    class Text(Shared):
        port = given

    service = running_service(Text, port=given)
    assert type(service.port) is int
    assert service.port > 0
    client = ServiceClient(Text())
    client.call("owner")
    assert client.service.port == 0


class Colour(enum.Enum):
    RED = "red"


class Money(str):
    """What no setting is read as."""


class Priced(MicroService):
    """Settings of one's own, as texts."""

    name = "priced"
    patience: Seconds = "15m"
    sizes: list[int] = "1, 2"
    colour: Colour = "red"
    place: Path = "/srv"
    currency: Literal["EUR", "USD"] = "EUR"
    number: int | str = "3"
    note: ClassVar[str | None] = "none"
    price: Money = "3"
    loud: int = "quiet"
    configurables = [
        *(Configurable(name) for name in __annotations__ if name != "loud"),
        Configurable("loud", template=str.upper),
    ]


def test_a_setting_of_ones_own_may_be_a_text_too():
    """What its type hint wants is left alone, and so is what has a template."""
    service = Priced()
    _ = service.app
    assert [getattr(service, setting.name) for setting in Priced.configurables] == [
        900,
        [1, 2],
        Colour.RED,
        Path("/srv"),
        "EUR",
        "3",
        "none",
        "3",
        "quiet",
    ]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("patience", "soon", "a number of seconds"),
        ("sizes", "1,x", "a list"),
        ("colour", "blue", "'red'"),
        ("currency", "GBP", "'EUR' or 'USD'"),
    ],
)
def test_a_wrong_text_of_ones_own_is_refused_by_name(name, text, wanted):
    service = type("Shop", (Priced,), {name: text})()
    with pytest.raises(ServiceConfigurationError, match=rf"Shop\.{name}: must be {wanted}"):
        _ = service.app


# What is set too late


#: Settings that `assemble` reads and that count when they are set later too, with the reason.
READ_AGAIN = {
    "outbox": "an object made of a path, which the event runtime reads again",
    "outbox_databases": "goes into that object; the event runtime refuses another value later",
    **dict.fromkeys(
        ["host", "accessible_at", "allowed_hosts", "allowed_origins", "trusted_proxies"],
        "the gate asks for it when the first request comes",
    ),
}


def test_no_setting_is_read_once_and_then_forgotten(monkeypatch):
    """One that `assemble` reads is refused when it changes later, instead of doing nothing."""
    read = set()

    class Recorded(MicroService):
        name = "recorded"
        status_page = True
        outbox = "box.db"
        plugins = [Counter()]
        modules = [Numbers()]

        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    service = Recorded()
    monkeypatch.setattr(assembly, "check_settings", lambda service: None)  # which reads them all
    monkeypatch.setattr(assembly, "FROZEN", ())
    read.clear()
    assert service.app.url_map

    settings = read & declarations_of(MicroService).keys()
    assert settings >= {"extra_handlers", "default_timeout"}
    assert settings <= {*FROZEN, *READ_AGAIN}
    assert not {*FROZEN} & {*READ_AGAIN}
    assert {*FROZEN} <= settings


def test_the_making_reads_no_setting_but_those_that_are_read_again():
    """What is set on the instance after its making counts as what its class says."""
    read = set()

    class Recorded(MicroService):
        name = "recorded"

        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    Recorded()
    assert read & declarations_of(MicroService).keys() == {"name", "plugins"}


class Pricey(gemstone_sync.BasePlugin):
    name = "pricey"

    def __init__(self) -> None:
        self.calls = 0

    def on_method_call(self, jsonrpc_request: gemstone_sync.JsonRpcRequest) -> None:
        self.calls += 1


def test_plugins_that_are_set_after_the_making_are_asked(make_service):
    service, first, second = make_service(), Pricey(), Pricey()
    service.plugins = [first]
    assert service.get_plugin(Pricey) is first
    second.name = "second"
    service.plugins.append(second)
    service.register_plugin(third := Counter())
    with ServiceClient(service) as client:
        client.call("get_service_specs")
    assert (first.calls, second.calls) == (1, 1)
    assert list(service.plugin_set) == [first, second, third]


def test_plugins_that_are_replaced_after_the_making_are_not_asked(make_service):
    service = make_service(plugins=[before := Pricey()])
    service.plugins = [after := Pricey()]
    with ServiceClient(service) as client:
        client.call("get_service_specs")
    assert (before.calls, after.calls) == (0, 1)


def test_wrong_plugins_that_are_set_after_the_making_are_refused(make_service):
    service = make_service()
    service.plugins = [Pricey(), Pricey()]
    with pytest.raises(gemstone_sync.PluginError, match="two plugins have the name 'pricey'"):
        _ = service.app


def test_a_name_that_is_set_after_the_making_is_the_loggers(make_service):
    service = make_service()
    service.name = "renamed"
    assert service.app
    assert service.logger.name == "gemstone_sync.service.renamed"


def test_an_encode_that_is_set_after_the_making_is_called(make_service):
    def odd(self):
        return {"at": 1j}

    service = make_service(odd)
    service.encode = lambda value: str(value) if isinstance(value, complex) else None
    with ServiceClient(service) as client:
        assert client.call("odd") == {"at": "1j"}


@pytest.mark.parametrize("name", [*FROZEN, "outbox_databases"])
def test_what_is_set_after_the_app_was_made_is_refused(make_service, name, tmp_path):
    service = make_service(outbox=str(tmp_path / "outbox.db"))
    assert service.app
    setattr(service, name, object())
    with pytest.raises(ServiceConfigurationError, match=rf"^{name} was set after .*: set it"):
        service.start(block=False)


def test_a_list_that_grows_after_the_app_was_made_is_refused_at_the_start(make_service):
    service = make_service()
    service.blueprints = []
    assert service.app
    service.blueprints.append(flask.Blueprint("late", __name__))
    with pytest.raises(ServiceConfigurationError, match=r"^blueprints was set after service\.app"):
        service.start(block=False)


@pytest.mark.parametrize("name", ["configurables", "configurators", "environment_prefix"])
def test_where_settings_are_looked_for_is_not_changed_afterwards(make_service, name):
    service = make_service()
    service.configure([])
    setattr(service, name, object())
    with pytest.raises(ServiceConfigurationError, match=rf"^{name} was set after service"):
        service.start(block=False)


def test_registries_are_not_changed_once_a_service_was_asked_for(make_service):
    users = gemstone_sync.StaticDiscoveryStrategy({"users": ["http://127.0.0.1:1/api"]})
    service = make_service(discovery_strategies=[users])
    service.get_service("users")
    service.service_registry_urls = ["http://127.0.0.1:2/api"]
    with pytest.raises(ServiceConfigurationError, match=r"^service_registry_urls was set"):
        service.start(block=False)


def test_transports_are_not_changed_once_an_event_was_emitted(make_service):
    service = make_service(event_transports=[gemstone_sync.MemoryEventTransport()])
    service.emit_event("paid", 1)
    service.event_transports = [gemstone_sync.MemoryEventTransport()]
    with pytest.raises(ServiceConfigurationError, match=r"^event_transports was set after"):
        service.start(block=False)


def test_the_types_of_events_count_that_are_set_after_the_first_event(make_service):
    service = make_service(
        event_transports=[gemstone_sync.MemoryEventTransport()], emits={"paid": int}
    )
    service.emit_event("paid", 1)
    service.emits = {"paid": str}
    assert service.app
    with pytest.raises(ValueError, match="paid"):
        service.emit_event("paid", 1)
