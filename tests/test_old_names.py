"""Names that gemstone 0.3 to 0.12 had: they work, or one line names what takes their place."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import (
    BasePlugin,
    JsonRpcHandler,
    JsonRpcRequest,
    JsonRpcResponse,
    MemoryEventTransport,
    MicroService,
    Module,
    RemoteService,
)
from gemstone_sync.dispatch import CallContext
from gemstone_sync.old_names import TWINS
from gemstone_sync.testing import ServiceClient

MODULES = ["core", "plugins", "util", "auth", "discovery.cache", "discovery.default"]
MODULES += ["event.transport.redis_transport"]


class Service(MicroService):
    name = "old"


def context() -> CallContext:
    return CallContext(transport={})


OBJECTS: dict[str, Callable[[], Any]] = {
    "Container": Module,
    "MicroService": Service,
    "RemoteService": lambda: RemoteService("http://127.0.0.1:1/api"),
    "JsonRpcHandler": lambda: JsonRpcHandler(Service(), context(), print),
    "BaseEventTransport": MemoryEventTransport,
    "JsonRpcRequest": lambda: JsonRpcRequest("x"),
    "JsonRpcResponse": lambda: JsonRpcResponse(result=1),
}
ATTRIBUTES = [name for name in TWINS if name.partition(".")[0] in OBJECTS and "." in name]
ATTRIBUTES.remove("RemoteService.choose_algorithm")
NAMES = [n for n in TWINS if n not in (*MODULES, *ATTRIBUTES, "RemoteService.choose_algorithm")]


@pytest.mark.parametrize("name", MODULES)
def test_the_import_of_a_module_names_its_twin(name):
    place, _, last = f"gemstone_sync.{name}".rpartition(".")
    line = f"{place} has no {last}: {TWINS[name]}"
    old = f"{place}.{last}"
    froms = (f"from {old} import x", f"from {place} import {last}", f"from {old}.base import x")
    for statement in (f"import {old}", *froms):
        with pytest.raises(ImportError) as caught:
            exec(statement)
        assert str(caught.value) == line


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_module_names_its_twin_however_it_is_asked_for(name):
    place, _, last = f"gemstone_sync.{name}".rpartition(".")
    line = f"{place} has no {last}: {TWINS[name]}"
    with pytest.raises(ImportError) as imported:
        exec(f"from {place} import {last}")
    with pytest.raises(AttributeError) as read:
        getattr(importlib.import_module(place), last)
    assert str(imported.value) == str(read.value) == line
    assert not hasattr(importlib.import_module(place), last)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_names_its_twin(name):
    cls, _, attribute = name.partition(".")
    target = OBJECTS[cls]()
    with pytest.raises(AttributeError) as caught:
        getattr(target, attribute)
    kind = type(target).__name__
    assert str(caught.value) == f"'{kind}' object has no attribute '{attribute}': {TWINS[name]}"
    assert not hasattr(target, attribute)


@pytest.mark.parametrize("cls", [JsonRpcRequest, JsonRpcResponse, RemoteService])
def test_what_was_read_from_the_class_is_told_there_too(cls):
    name = "RESPONSE_CODES" if cls is RemoteService else "from_dict"
    with pytest.raises(AttributeError) as caught:
        getattr(cls, name)
    twin = TWINS[f"{cls.__name__}.{name}"]
    assert str(caught.value) == f"type object {cls.__name__!r} has no attribute {name!r}: {twin}"


def test_every_twin_that_is_a_name_is_there():
    for name, twin in TWINS.items():
        words = twin.removeprefix("use ").split()
        if len(words) == 1 and words[0].isidentifier():
            owner = OBJECTS.get(name.partition(".")[0], lambda: gemstone_sync)()
            assert words[0] in dir(owner), (name, twin)


def test_what_was_never_there_is_told_as_ever():
    for statement in ("import gemstone_sync.nope", "from gemstone_sync.nope import x"):
        with pytest.raises(ModuleNotFoundError, match=r"^No module named 'gemstone_sync\.nope'$"):
            exec(statement)
    for place in ("gemstone_sync", "gemstone_sync.errors", "gemstone_sync.discovery"):
        with pytest.raises(ImportError, match=rf"^cannot import name 'nope' from '{place}'"):
            exec(f"from {place} import nope")
    with pytest.raises(AttributeError, match=r"'Module' object has no attribute 'nope'$") as caught:
        _ = Module().nope
    assert isinstance(caught.value.obj, Module)  # for Python's "Did you mean"


def test_what_a_property_raises_is_told_as_it_is():
    class Broken(Service):
        @property
        def stats(self) -> Any:
            return self.nope

        def authenticate_request(self, handler: Any) -> Any:
            return handler.nope

    for read in (
        lambda: Broken().stats,
        lambda: JsonRpcHandler(Broken(), context(), print).current_user,
    ):
        with pytest.raises(AttributeError, match="has no attribute 'nope'"):
            read()


def test_a_subclass_may_have_any_of_them():
    class Own(MicroService):
        name = "own"
        stats = "mine"

        def __init__(self) -> None:
            self.registries = ["mine"]
            super().__init__()

    assert (Own().stats, Own().registries) == ("mine", ["mine"])


def test_a_module_reaches_the_executor_of_its_service():
    class Working(Module):
        @gemstone_sync.exposed_method()
        def work(self) -> int:
            return self.get_executor().submit(lambda: 7).result()

    service = Service()
    service.modules = [Working()]
    assert ServiceClient(service).call("work") == 7


def test_a_plugin_that_reads_what_is_gone_is_told_in_the_log(caplog):
    class Old(BasePlugin):
        name = "old"

        def on_method_call(self, request: Any) -> None:
            _ = request.extra

    service = Service()
    service.register_plugin(Old())
    ServiceClient(service).call("get_service_specs")
    assert TWINS["JsonRpcRequest.extra"] in caplog.text


def test_an_option_of_a_client_that_is_gone_is_told_before_anything_is_asked():
    nobody = "http://127.0.0.1:1/api"
    for option in ("choose_algorithm", "timeot"):
        with pytest.raises(TypeError, match=f"RemoteService has no option '{option}'") as caught:
            RemoteService.get_service_by_name(nobody, "x", **{option: "random"})
        assert ("get_service uses all" in str(caught.value)) is (option == "choose_algorithm")


def test_who_misses_none_of_them_pays_nothing(run_python):
    done = run_python("""
import copy, sys
import gemstone_sync
class Part(gemstone_sync.Module): ...
class Service(gemstone_sync.MicroService):
    name, port, configurators, modules = "s", 0, [], [Part()]
    event_transports = [gemstone_sync.MemoryEventTransport()]
    @gemstone_sync.event_handler("x")
    def handle(self, body): ...
    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def emit(self, handler): return self.emit_event("x", handler.cookies)
service = Service()
service.start(block=False)
client = gemstone_sync.RemoteService(service.url)
client.methods.emit()
copy.deepcopy(Part())
service.stop()
assert "gemstone_sync.old_names" not in sys.modules
""")
    assert (done.returncode, done.stderr) == (0, "")
