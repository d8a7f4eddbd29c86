"""What ``import gemstone_sync`` offers, and when it patches the process.

A client program, say a Django site, may import the package and use its errors and messages: nothing
may change in its process. The first service-side name patches.
"""

from collections.abc import Callable
from typing import Any

import pytest

import gemstone_sync

PATCHING = {
    *("MicroService", "Container", "Module", "BasePlugin", "run"),
    *("exposed_method", "event_handler", "periodic", "route"),
    *("public_method", "private_api_method", "requires_handler_reference", "async_method"),
    *("JsonRpcHandler", "GemstoneCustomHandler"),
    *("ValidationStrategy", "HeaderValidationStrategy", "BasicCookieStrategy"),
    *("BearerTokenStrategy", "BasicAuthStrategy", "ServiceRegistry"),
}

PUBLIC = {
    *PATCHING,
    *("JsonRpcRequest", "JsonRpcResponse"),
    *("Configurable", "BaseConfigurator", "CommandLineConfigurator", "EnvironmentConfigurator"),
    *("FileConfigurator", "TomlFileConfigurator", "YamlFileConfigurator"),
    *("JsonFileConfigurator", "IniFileConfigurator"),
    *("UNSET", "GemstoneError", "ServiceConfigurationError", "ServiceStartError", "PluginError"),
    *("RpcError", "ParseError", "InvalidRequest", "MethodNotFound", "InvalidParams"),
    *("InternalError", "ServerOverloaded", "AccessDenied", "DeadlineExceeded", "TooManyHops"),
    *("ResponseTooLarge", "RemoteError", "TransportError", "ConnectionFailed", "ConnectTimeout"),
    *("ConnectionLost", "CircuitOpen", "Timeout", "BadResponse"),
    *("RemoteService", "MethodCall", "Notification", "Result", "BatchResult"),
    *("AsyncMethodCall", "as_completed", "first_completed", "make_callbacks"),
    *("HeaderToken", "CookieToken", "BearerToken", "BasicAuth"),
    *("BaseDiscoveryStrategy", "HttpDiscoveryStrategy", "RedisDiscoveryStrategy"),
    *("BaseEventTransport", "RabbitMqEventTransport", "RedisEventTransport"),
    *("SqliteEventTransport", "MemoryEventTransport", "KombuEventTransport"),
    *("transport_from_url", "EventEmitter", "Outbox", "current_event"),
    *("EventNotDelivered", "BrokerUnavailable", "Reject", "RetryLater"),
    *("StaticDiscoveryStrategy", "MemoryDiscoveryStrategy", "ServiceNotFound"),
}

#: Prints, for each group of names, whether using them in a fresh process patched it.
#: The class is asked where it comes from: patching also rebinds the variables of this program.
BY_GROUPS = """
import os, socket, sys
# Once, before the forks: it takes a while.
import gemstone_sync.config, gemstone_sync.dispatch, gemstone_sync.ops, gemstone_sync.server

def is_patched():
    return socket.socket.__module__.startswith("gevent")

for group in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        import gemstone_sync
        assert not is_patched(), "importing gemstone_sync patches"
        for name in group.split(","):
            getattr(gemstone_sync, name)
        os.write(1, f"{group} {is_patched()}\\n".encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, group
"""

BELOW_THE_SERVICE = """
import importlib, socket
for name in NAMES:
    importlib.import_module(f"gemstone_sync.{name}")
    assert socket.socket.__module__ == "socket", f"importing {name} patches"
"""


def test_the_public_names_are_these() -> None:
    assert sorted(gemstone_sync.__all__) == sorted(PUBLIC)
    assert len(set(gemstone_sync.__all__)) == len(gemstone_sync.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_a_documented_thing_and_not_a_module(name: str) -> None:
    value = getattr(gemstone_sync, name)

    assert callable(value) or value is gemstone_sync.UNSET
    assert value.__doc__
    assert name in dir(gemstone_sync)


def test_star_import_gives_all_of_them() -> None:
    namespace: dict[str, Any] = {}
    exec("from gemstone_sync import *", namespace)

    assert set(namespace) >= PUBLIC


def test_a_wrong_name_is_an_attribute_error_that_says_which() -> None:
    with pytest.raises(AttributeError, match="MicroServise"):
        _ = gemstone_sync.MicroServise  # type: ignore[attr-defined]


def test_the_name_that_went_with_tornado_says_what_to_use() -> None:
    with pytest.raises(AttributeError, match="use JsonRpcHandler"):
        _ = gemstone_sync.TornadoJsonRpcHandler  # type: ignore[attr-defined]


def test_the_version_is_readable() -> None:
    assert gemstone_sync.__version__.count(".") == 2


def test_only_the_first_service_side_name_patches_the_process(
    run_python: Callable[..., Any],
) -> None:
    clients = ",".join(sorted(PUBLIC - PATCHING))
    services = ["MicroService", "Container", "Module", "exposed_method", "event_handler", "run"]
    services += ["ServiceRegistry"]
    done = run_python(BY_GROUPS, clients, *services)

    assert done.returncode == 0, done.stderr
    patched = dict(line.split() for line in done.stdout.splitlines())
    assert patched == {clients: "False", **dict.fromkeys(services, "True")}


def test_all_service_side_names_come_from_the_packages_that_patch() -> None:
    packages = ("gemstone_sync.service.", "gemstone_sync.registry.")
    for name in PATCHING:
        assert getattr(gemstone_sync, name).__module__.startswith(packages)
    for name in PUBLIC - PATCHING - {"UNSET"}:
        assert not getattr(gemstone_sync, name).__module__.startswith(packages)


def test_importing_what_is_below_the_service_does_not_patch(
    run_python: Callable[..., Any],
) -> None:
    names = ["errors", "protocol", "concurrency", "config", "client", "discovery", "contract"]
    names += ["dispatch", "server", "ops", "testing", "testing.plugin"]
    done = run_python(BELOW_THE_SERVICE.replace("NAMES", str(names)))

    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_can_opt_out(run_python: Callable[..., Any]) -> None:
    done = run_python(BY_GROUPS, "MicroService", GEMSTONE_MONKEY_PATCH="0")

    assert done.stdout.split() == ["MicroService", "False"], done.stderr
