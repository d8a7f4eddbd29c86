"""List the names that gemstone 0.3 to 0.12 had and this has not, with what replaces each.

Nothing else belongs here: a name that works here stands where it belongs.
"""

from __future__ import annotations

__all__ = ["TWINS"]

_ERRORS = {
    "RemoteServiceError": "use RemoteError, and TransportError for what got no answer",
    "CalledServiceError": "use RemoteError, and TransportError for what got no answer",
    "MethodNotFoundError": "use MethodNotFound",
    "InvalidParamsError": "use InvalidParams",
    "AccessDeniedError": "use AccessDenied",
    "InternalErrorError": "use InternalError",
    "UnknownError": "use RemoteError",
    "PluginDoesNotExistError": "use PluginError",
    "MissingPluginNameError": "use PluginError",
}
_CACHE = "set discovery_cache_seconds on the service"
_CACHES = dict.fromkeys(("ServiceDiscoveryCache", "DummyCache", "CacheEntry"), _CACHE)
_LOOP = "a process has one gevent hub; start_thread(), gevent.spawn and plain calls take its place"
_MESSAGE = "use msgspec.structs.asdict, encode_json and read_body of gemstone_sync.protocol"

#: By the name below gemstone_sync, or that of a class with its attribute.
TWINS: dict[str, str] = {
    # modules
    "core": "import its names from gemstone_sync",
    "plugins": "import BasePlugin and PluginError from gemstone_sync",
    "util": "import as_completed, first_completed and make_callbacks from gemstone_sync",
    "auth": "import the validation strategies from gemstone_sync",
    "discovery.cache": _CACHE,
    "discovery.default": "import HttpDiscoveryStrategy from gemstone_sync",
    "event.transport.redis_transport": "import RedisEventTransport from gemstone_sync",
    # their names
    **_ERRORS,
    **_CACHES,
    **{f"errors.{name}": twin for name, twin in _ERRORS.items()},
    **{f"discovery.{name}": twin for name, twin in _CACHES.items()},
    "PyMicroService": "use MicroService",
    "TornadoJsonRpcHandler": "use JsonRpcHandler",
    "BaseValidationStrategy": "use ValidationStrategy",
    "JsonRpcError": "use RpcError",
    "JsonRpcParseError": "use ParseError",
    "JsonRpcInvalidRequestError": "use InvalidRequest",
    "JsonRpcRequestBatch": "a list of JsonRpcRequest is one; a client calls call_batch",
    "JsonRpcResponseBatch": "a list of JsonRpcResponse is one",
    "GenericResponse": "raise MethodNotFound, InvalidParams, AccessDenied or an RpcError of yours",
    "parse_json_structure": "use gemstone_sync.protocol.read_body",
    "get_remote_service_instance_for_url": "use RemoteService(url)",
    "init_default_logger": "use logging.basicConfig",
    "dynamic_load": "use pkgutil.resolve_name",
    "DefaultStatsContainer": "set use_statistics on the service",
    "DummyStatsContainer": "set use_statistics on the service",
    # attributes
    "Container.get_io_loop": _LOOP,
    "MicroService.io_loop": _LOOP,
    "MicroService.event_handlers": "use get_event_handlers()",
    "MicroService.registries": "use service_registry_urls",
    "MicroService.remote_service_cache": _CACHE,
    "MicroService.default_periodic_tasks": "use periodic_tasks",
    "MicroService.stats": "set use_statistics and call the method statistics",
    "RemoteService.get_available_methods": "use methods.get_service_specs()['methods']",
    "RemoteService.refresh_service_info": "use methods.get_service_specs()",
    "RemoteService.choose_algorithm": "it is chosen at random; MicroService.get_service uses all",
    "RemoteService.handle_single_request": "use call_method() or notify()",
    "RemoteService.handle_batch_request": "use call_batch()",
    "RemoteService.build_request_body": "use MethodCall(...).message()",
    "RemoteService.build_http_request_obj": "give a session= or an authentication_method=",
    "RemoteService.make_request_sync": "use call_method()",
    "RemoteService.get_new_id": "use MethodCall(...).id",
    "RemoteService.options": "use authentication_method",
    "RemoteService.RESPONSE_CODES": "each class in gemstone_sync.errors has its code",
    "JsonRpcHandler.get_current_user": "use current_user",
    "JsonRpcHandler.get_argument": "use request.args",
    "JsonRpcHandler.write": "return the result, or use write_single_response()",
    "JsonRpcHandler.write_batch_response": "return the result, or use write_single_response()",
    "JsonRpcHandler.finish": "return the result, or use write_single_response()",
    "JsonRpcHandler.set_status": "raise an RpcError: JSON-RPC answers with status 200",
    "BaseEventTransport.run_on_main_thread": "call the function: each handler has a greenlet",
    "BaseEventTransport.set_microservice": "handlers are bound to their service already",
    "JsonRpcRequest.extra": "other members are not kept: send parameters, or headers",
    "JsonRpcRequest.invalid": "what is invalid is refused before a method or hook sees it",
    "JsonRpcRequest.to_dict": _MESSAGE,
    "JsonRpcRequest.to_string": _MESSAGE,
    "JsonRpcRequest.from_dict": "use JsonRpcRequest(method, params, id)",
    "JsonRpcRequest.from_string": _MESSAGE,
    "JsonRpcResponse.response": "use result",
    "JsonRpcResponse.send_id_field": "use id: UNSET for none",
    "JsonRpcResponse.from_dict": "use JsonRpcResponse(result=, error=, id=)",
    "JsonRpcResponse.to_dict": _MESSAGE,
    "JsonRpcResponse.to_string": _MESSAGE,
}
