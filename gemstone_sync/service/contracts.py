"""A service's contract, and how callers get it: ``rpc.discover`` and the documents over HTTP."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import flask

from ..callables import doc_of
from ..concurrency import current_call
from ..contract import ParameterBinder
from ..contract.model import Contract
from ..dispatch import CallContext, Dispatcher, Method
from ..errors import InvalidParams, InvalidRequest
from ..event.handlers import Handler, Subscriber
from ..event.transport import RabbitMqEventTransport
from ..protocol import encode_json
from ..server import Rule
from .base import ServiceBase
from .tools import is_tool

if TYPE_CHECKING:
    from ..contract.asyncapi import Channel

__all__ = ["Documents", "calling_context"]


class _Parts(Protocol):
    """Those parts of a service of which its contract tells."""

    @property
    def dispatcher(self) -> Dispatcher: ...

    @property
    def event_handlers(self) -> tuple[Handler, ...]: ...


def calling_context() -> CallContext | None:
    """Return the context of the running call; None for nobody's."""
    call = current_call.get()
    return None if call is None else call.context


def _contract_of(service: ServiceBase, parts: _Parts) -> Contract:
    """Make the contract of a service, private methods included, without its addresses."""
    # Here, as all that writes documents: a service that nobody asks need not have it in memory.
    from ..contract.builder import EventSource, MethodSource, build

    methods = [
        MethodSource(
            name=method.name,
            function=method.function,
            parameters=method.binder.parameters,
            needs_handler=method.needs_handler,
            private=method.private,
            idempotent=method.idempotent,
            timeout=method.timeout,
            **{
                **(vars(method.told) if method.told is not None else {}),
                "mcp": is_tool(service, method),
            },
        )
        for method in parts.dispatcher.methods.values()
        if not method.name.startswith("rpc.")
    ]
    handled: dict[str, EventSource] = {}
    for handler in parts.event_handlers:
        source = EventSource(
            name=handler.pattern,
            function=handler.function,
            check=getattr(handler.convert, "check", None),
            scope=handler.scope,
        )
        first = handled.setdefault(handler.pattern, source)
        if first.function is not None and doc_of(first.function) is None:
            handled[handler.pattern] = source  # of several the first that says something
    return build(
        name=service.name,
        version=service.version,
        doc=type(service).__doc__,
        methods=methods,
        emits=[EventSource(name=name, body=body) for name, body in service.emits.items()],
        handles=handled.values(),
    )


class Documents:
    """Tells callers of one service's contract, which is made when first asked for.

    :param parts: gives the service's parts, which are made when first needed.
    :param servers: gives the URLs of the endpoint, as they are now.
    """

    def __init__(
        self,
        service: ServiceBase,
        parts: Callable[[], _Parts],
        servers: Callable[[], tuple[str, ...]],
    ) -> None:
        self._service = service
        self._parts = parts
        self._servers = servers
        self._contracts: dict[bool, Contract] = {}
        self._texts: dict[tuple[Any, ...], tuple[bytes, str]] = {}

    def contract(self, *, private: bool = True) -> Contract:
        """Return the contract with the service's addresses.

        :param private: with the private methods.
        """
        if private not in self._contracts:
            whole = self._contracts.setdefault(True, _contract_of(self._service, self._parts()))
            self._contracts[private] = whole if private else whole.without_private()
        return replace(
            self._contracts[private], version=self._service.version, servers=self._servers()
        )

    def for_caller(self, context: CallContext | None) -> Contract:
        """Return the contract as a caller may see it; None for nobody's call."""
        return self.contract(private=self._sees_private(context))

    def _sees_private(self, context: CallContext | None) -> bool:
        if not self._service.hide_private or context is None:
            return True
        return self._parts().dispatcher.lets_in(context)

    def methods(self) -> list[Method]:
        """Make the methods ``rpc.discover`` and ``rpc.asyncapi``."""

        def discover(version: str = "1.4.1") -> dict[str, Any]:
            """Return the service's OpenRPC document.

            :param version: of the OpenRPC specification: "1.4.1" or "1.3.2".
            """
            from ..contract.openrpc import VERSIONS, to_openrpc

            _check_version(version, VERSIONS)
            return to_openrpc(self.for_caller(calling_context()), version)

        def asyncapi(version: str = "3.0.0") -> dict[str, Any]:
            """Return the service's AsyncAPI document.

            :param version: of the AsyncAPI specification: "3.0.0".
            """
            from ..contract.asyncapi import VERSIONS, to_asyncapi

            _check_version(version, VERSIONS)
            contract = self.for_caller(calling_context())
            return to_asyncapi(contract, version, self.channels())

        return [
            Method(name, function, ParameterBinder(function), idempotent=True)
            for name, function in (("rpc.discover", discover), ("rpc.asyncapi", asyncapi))
        ]

    def rules(self) -> list[Rule]:
        """Make the routes of the documents, below the endpoint."""
        base = self._service.endpoint.rstrip("/")
        return [
            Rule(f"{base}/openrpc.json", "gemstone_sync_openrpc", self._openrpc),
            Rule(f"{base}/asyncapi.json", "gemstone_sync_asyncapi", self._asyncapi),
        ]

    def _openrpc(self) -> flask.Response:
        from ..contract.openrpc import VERSIONS, to_openrpc

        return self._document("OpenRPC", VERSIONS, to_openrpc)

    def _asyncapi(self) -> flask.Response:
        from ..contract.asyncapi import VERSIONS, to_asyncapi

        channels = self.channels()
        return self._document(
            "AsyncAPI", VERSIONS, lambda contract, version: to_asyncapi(contract, version, channels)
        )

    def channels(self) -> list[Channel] | None:
        """List where the service's events go and come from at its RabbitMQ; None without one."""
        for transport in self._service.event_transports:
            if isinstance(transport, RabbitMqEventTransport):
                return _channels_at(transport, self._service, self._parts().event_handlers)
        return None

    def _document(
        self,
        kind: str,
        versions: tuple[str, ...],
        write: Callable[[Contract, str], dict[str, Any]],
    ) -> flask.Response:
        version = flask.request.args.get("version", versions[0])
        if version not in versions:
            error = InvalidRequest(f"{kind}: there are the versions {', '.join(versions)}")
            text = self._parts().dispatcher.refusal(error)
            return flask.Response(text, 400, mimetype="application/json")
        return self.respond(
            f"{kind} {version}",
            "application/json",
            lambda contract: encode_json(write(contract, version)),
        )

    def respond(
        self, kind: str, mimetype: str, write: Callable[[Contract], bytes]
    ) -> flask.Response:
        """Answer with what is written of the contract that the caller may see.

        RFC 9110, section 13: a strong validator, and 304.

        :param kind: tells it from everything else that is written.
        :param write: called once for each version of the contract.
        """
        request = flask.request
        sees = self._sees_private(CallContext(request.environ))
        contract = self.contract(private=sees)
        key = (kind, sees, contract.version, contract.servers)
        if key not in self._texts:
            text = write(contract)
            self._texts[key] = text, hashlib.sha256(text).hexdigest()[:32]
        text, tag = self._texts[key]
        response = flask.Response(text, mimetype=mimetype)
        response.set_etag(tag)
        # To be asked again each time: another version of the service may answer.
        response.headers["Cache-Control"] = (
            "private, no-cache" if self._service.hide_private else "no-cache"
        )
        response.make_conditional(request)
        return response


def _check_version(version: str, known: tuple[str, ...]) -> None:
    """Refuse a version that is not written.

    :raises InvalidParams: naming those that are.
    """
    if version not in known:
        reason = f"there are {' and '.join(known)}" if len(known) > 1 else f"there is {known[0]}"
        raise InvalidParams(data={"parameters": [{"name": "version", "reason": reason}]})


#: Stands for what only a running instance has, until its queue's name is made.
_INSTANCE = uuid.UUID(int=0).hex


def _channels_at(
    transport: RabbitMqEventTransport, service: ServiceBase, handlers: tuple[Handler, ...]
) -> list[Channel]:
    """Tell of exchanges and queues as `event.transport.rabbitmq.queues` declares them."""
    from ..contract.asyncapi import Channel

    topology = transport.topology
    host = {"vhost": transport.virtual_host}

    def exchange(name: str) -> dict[str, Any]:
        declared = {"name": name, "type": "topic", "durable": True, "autoDelete": False}
        return {"is": "routingKey", "exchange": declared | host}

    def queue(name: str) -> dict[str, Any]:
        declared = {"name": name, "durable": True, "exclusive": False, "autoDelete": False}
        return {"is": "queue", "queue": declared | host}

    channels = []
    for event in sorted(service.emits):
        for address, name in (
            (event, topology.events),
            (f"{{shard}}.{event}", topology.keyed),
            (f"once.{event}", topology.work[0]),
            (f"keyed.{event}", topology.work[0]),
        ):
            binding = exchange(name)
            channels.append(
                Channel(action="send", address=address, events=(event,), binding=binding)
            )
    subscriber = Subscriber(service=service.name, instance=_INSTANCE, handlers=handlers)
    for each in topology.queues_of(subscriber):
        name = each.name.replace(_INSTANCE, "{instance}")
        events = tuple(sorted({handler.pattern for handler in each.handlers}))
        bound = tuple((binding.exchange, binding.pattern) for binding in each.bindings)
        channels.append(
            Channel(action="receive", address=name, events=events, binding=queue(name), bound=bound)
        )
    if handlers:
        events = tuple(sorted({handler.pattern for handler in handlers}))
        channels.append(
            Channel(
                action="dead", address=topology.dead, events=events, binding=queue(topology.dead)
            )
        )
    return channels
