"""What ``import gemstone_sync`` offers, and when it patches the process.

A client program, say a Django site, may import the package and use its errors and messages: nothing
may change in its process. The first service-side name patches.
"""

from typing import Any

import pytest

import gemstone_sync

PATCHING = {
    *("MicroService", "Container", "Module", "BasePlugin", "run"),
    *("exposed_method", "event_handler", "periodic", "health_check", "route"),
    *("public_method", "private_api_method", "requires_handler_reference", "async_method"),
    *("JsonRpcHandler", "GemstoneCustomHandler"),
    *("ValidationStrategy", "HeaderValidationStrategy", "BasicCookieStrategy"),
    *("BearerTokenStrategy", "BasicAuthStrategy", "ServiceRegistry"),
}

PUBLIC = {
    *PATCHING,
    *("JsonRpcRequest", "JsonRpcResponse"),
    *(
        "setting",
        "Configurable",
        "BaseConfigurator",
        "CommandLineConfigurator",
        "EnvironmentConfigurator",
    ),
    *("FileConfigurator", "TomlFileConfigurator", "YamlFileConfigurator"),
    *("JsonFileConfigurator", "IniFileConfigurator"),
    *(
        "Example",
        "NOTHING",
        "UNSET",
        "GemstoneError",
        "ServiceConfigurationError",
        "ServiceStartError",
        "PluginError",
    ),
    *("RpcError", "ParseError", "InvalidRequest", "MethodNotFound", "InvalidParams"),
    *("InternalError", "ServerOverloaded", "AccessDenied", "DeadlineExceeded", "TooManyHops"),
    *("ResponseTooLarge", "RemoteError", "TransportError", "ConnectionFailed", "ConnectTimeout"),
    *("ConnectionLost", "CircuitOpen", "Timeout", "BadResponse"),
    *("RemoteService", "MethodCall", "Notification", "Result", "BatchResult"),
    *("AsyncMethodCall", "as_completed", "first_completed", "make_callbacks", "run_async"),
    *("HeaderToken", "CookieToken", "BearerToken", "BasicAuth"),
    *("BaseDiscoveryStrategy", "HttpDiscoveryStrategy", "RedisDiscoveryStrategy"),
    *("BaseEventTransport", "RabbitMqEventTransport", "RedisEventTransport"),
    *("SqliteEventTransport", "MemoryEventTransport", "KombuEventTransport"),
    *("transport_from_url", "EventEmitter", "Outbox", "current_event"),
    *("EventNotDelivered", "BrokerUnavailable", "Reject", "RetryLater"),
    *("StaticDiscoveryStrategy", "MemoryDiscoveryStrategy", "ServiceNotFound"),
}

#: Below the service: importing these patches nothing.
BELOW = ["errors", "protocol", "concurrency", "config", "client", "discovery", "contract"]
BELOW += ["dispatch", "server", "ops", "testing", "testing.plugin"]

#: Prints, for each group of names, whether using them in a fresh process patches it.
#: The class is asked where it comes from: patching also rebinds the variables of this program.
BY_GROUPS = """
import importlib, os, socket, sys

def is_patched():
    return socket.socket.__module__.startswith("gevent")

import gemstone_sync
for name in sys.argv[1].split(","):
    importlib.import_module(f"gemstone_sync.{name}")
    assert not is_patched(), f"importing {name} patches"

for group in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        names, _, choice = group.partition("=")
        if choice:
            os.environ["GEMSTONE_MONKEY_PATCH"] = choice
        for name in names.split(","):
            getattr(gemstone_sync, name)
        os.write(1, f"{group} {is_patched()}\\n".encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, group
"""


def test_the_public_names_are_these():
    assert sorted(gemstone_sync.__all__) == sorted(PUBLIC)
    assert len(set(gemstone_sync.__all__)) == len(gemstone_sync.__all__)


def test_each_is_a_documented_thing_and_not_a_module():
    namespace: dict[str, Any] = {}
    exec("from gemstone_sync import *", namespace)
    for name in PUBLIC:
        value = getattr(gemstone_sync, name)
        assert callable(value) or value in (gemstone_sync.UNSET, gemstone_sync.NOTHING), name
        assert value.__doc__, name
        assert namespace[name] is value
    assert set(dir(gemstone_sync)) >= PUBLIC


def test_a_wrong_name_is_an_attribute_error_that_says_which():
    with pytest.raises(AttributeError, match="MicroServise"):
        _ = gemstone_sync.MicroServise
    with pytest.raises(AttributeError, match="use JsonRpcHandler"):  # it went with Tornado
        _ = gemstone_sync.TornadoJsonRpcHandler


def test_the_version_is_readable():
    assert gemstone_sync.__version__.count(".") == 2


def test_only_the_first_service_side_name_patches_the_process(run_python):
    """Importing what is below does not, and the environment can opt out."""
    clients = ",".join(sorted(PUBLIC - PATCHING))
    groups = [clients, "MicroService", "exposed_method", "ServiceRegistry", "MicroService=0"]
    done = run_python(BY_GROUPS, ",".join(BELOW), *groups)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        *("False", "True", "True", "True", "False")
    ]


def test_all_service_side_names_come_from_the_packages_that_patch():
    packages = ("gemstone_sync.service.", "gemstone_sync.registry.")
    for name in PATCHING:
        assert getattr(gemstone_sync, name).__module__.startswith(packages)
    for name in PUBLIC - PATCHING - {"NOTHING", "UNSET"}:
        assert not getattr(gemstone_sync, name).__module__.startswith(packages)
