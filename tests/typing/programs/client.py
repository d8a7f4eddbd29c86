"""A program that calls services."""

from __future__ import annotations

import requests

import gemstone_sync as gemstone
from gemstone_sync import RemoteService, errors
from gemstone_sync.errors import Timeout
from gemstone_sync.event import deadletters

client = RemoteService(
    "http://127.0.0.1:5000/api",
    authentication_method=gemstone.BearerToken("secret"),
    timeout=(1, 5),
    idempotent_methods=["get"],
    session=requests.Session(),
)
client.methods.say_hello("world")
client.methods.users.login(name="ada")
client.methods["users.login"]("ada")
client.notifications.say_hello("world")
client.idempotent.get_user(id=7)
result: gemstone.Result = client.call_method("users.login", ["ada"])
answer = result.result if result.error is None else result.error.message

calls = [client.methods.slow.async_(n) for n in range(3)]
for call in gemstone.as_completed(*calls):
    print(call.result())
print(gemstone.first_completed(*calls).result(wait=True))
gemstone.make_callbacks(calls, on_result=print, on_error=lambda error: print(error.message))
client.call_batch(gemstone.MethodCall("add", [1, 2]), gemstone.Notification("log", ["hi"]))
client.methods.slow_method(3, __async=True).wait()

try:
    client.with_options(timeout=1, errors=[gemstone.RpcError]).methods.f()
except (gemstone.RemoteError, Timeout, gemstone.TransportError) as failure:
    print(failure)

emitter = gemstone.EventEmitter("memory://")
emitter.emit_event("a.b", {"x": 1})
deadletters.list(gemstone.MemoryEventTransport(), "a.b")
url: str = RemoteService.get_service_by_name("http://127.0.0.1:8090/api", "users").url

RemoteService(7)  # error: no URL
RemoteService("http://127.0.0.1/api", timout=1)  # error: a typo
client.call_methods("x")  # error: a typo
client.get_available_methods()  # error: gemstone's
gemstone.JsonRpcRequest("x").extra  # error: gemstone's # noqa: B018
gemstone.BaseValidationStrategy  # error: gemstone's # noqa: B018
errors.Timeoutt  # error: a typo # noqa: B018
gemstone.MemoryEventTransport().run_on_main_thread(print)  # error: gemstone's
gemstone.Module().get_executr()  # error: a typo
gemstone.HeaderValidationStrategy("Authorization", template=lambda value: value[7:] or None)
gemstone.HeaderValidationStrategy("Authorization", template=7)  # error: no template
gemstone.RemoteError.cod  # error: a typo # noqa: B018
