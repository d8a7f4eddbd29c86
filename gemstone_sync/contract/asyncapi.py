"""A contract's events as an AsyncAPI 3.0.0 document, and back.

A service without a broker that AsyncAPI has words for gets one channel for each event, under its
name. What RabbitMQ really has is told by `Channel`s, from whoever knows the transport. A message
that stands for an event has the event's name. Beside AsyncAPI's own there are

- ``x-scope`` of a receive operation: ``"instance"`` when every running instance gets the event;
- ``x-bindings`` of a channel that is a queue: ``[{"exchange", "pattern"}]``;
- ``x-dead-letters`` of the operation that sends what could not be handled.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0 and the AMQP bindings 0.3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import Contract, Event
from .reading import BadDocument, Reader, text

__all__ = ["VERSIONS", "Channel", "from_asyncapi", "to_asyncapi"]

#: Those that can be written.
VERSIONS = ("3.0.0",)

_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A place at a broker where events go to, or come from.

    :param action: ``"send"``, ``"receive"``, or ``"dead"`` for where this service leaves what it
        cannot handle.
    :param address: a routing key, or the name of a queue.
    :param events: names of the events.
    :param binding: AsyncAPI's AMQP channel binding.
    :param bound: of a queue: the exchanges and patterns that it is bound to.
    """

    action: str
    address: str
    events: tuple[str, ...]
    binding: Mapping[str, Any]
    bound: tuple[tuple[str, str], ...] = ()


def to_asyncapi(
    contract: Contract, version: str = VERSIONS[0], channels: Sequence[Channel] | None = None
) -> dict[str, Any]:
    """Write what a contract says of events as an AsyncAPI document.

    :param version: one of `VERSIONS`.
    :param channels: what the broker has; None for one channel for each event.
    :returns: what json can write; the same for the same contract, keys in one order.
    :raises ValueError: for another version.
    """
    if version not in VERSIONS:
        raise ValueError(f"AsyncAPI {version} is not written here; {' and '.join(VERSIONS)} is")
    described = "\n\n".join(filter(None, [contract.summary, contract.description]))
    document: dict[str, Any] = {
        "asyncapi": version,
        "info": {"title": contract.name, "version": contract.version}
        | ({"description": described} if described else {}),
        "defaultContentType": "application/json",
    }
    if channels is None:
        channels = [*_plain("send", contract.emits), *_plain("receive", contract.handles)]
    writer = _Writer(contract, document)
    for channel in channels:
        writer.add(channel)
    if schemas := contract.without_methods().schemas:
        components = document.setdefault("components", {})
        components["schemas"] = {_safe(name): _draft_7(body) for name, body in schemas.items()}
    if "components" in document:
        document["components"] = document.pop("components")  # last, as readers expect
    return document


def _plain(action: str, events: Iterable[Event]) -> list[Channel]:
    return [
        Channel(action=action, address=each.name, events=(each.name,), binding={})
        for each in events
    ]


class _Writer:
    """Writes channels with their messages and operations into a document."""

    def __init__(self, contract: Contract, document: dict[str, Any]) -> None:
        self._document = document
        self._events = {"send": {event.name: event for event in contract.emits}}
        self._events["receive"] = {event.name: event for event in contract.handles}
        self._events["dead"] = self._events["receive"]
        self._messages: dict[tuple[str, str], str] = {}
        self._channels: dict[str, str] = {}

    def add(self, channel: Channel) -> None:
        document = self._document
        of_action = self._events[channel.action]
        events = [of_action[name] for name in channel.events]
        messages = [self._message(event, channel.action) for event in events]
        channels = document.setdefault("channels", {})
        name = self._channels.get(channel.address)
        if name is None:
            name = self._channels[channel.address] = _unique(channel.address, channels)
            channels[name] = _channel(channel)
        told = channels[name].setdefault("messages", {})
        for message in messages:
            told[message] = {"$ref": f"#/components/messages/{message}"}
        operations = document.setdefault("operations", {})
        operation: dict[str, Any] = {
            "action": "receive" if channel.action == "receive" else "send",
            "channel": {"$ref": f"#/channels/{name}"},
        }
        if len(events) == 1 and events[0].summary:
            operation["summary"] = events[0].summary
        operation["messages"] = [{"$ref": f"#/channels/{name}/messages/{m}"} for m in messages]
        if channel.binding:
            own = {"ack": True} if channel.action == "receive" else {"deliveryMode": 2}
            operation["bindings"] = {"amqp": own | {"bindingVersion": "0.3.0"}}
        if channel.action == "dead":
            operation["x-dead-letters"] = True
        elif any(event.scope == "instance" for event in events):
            operation["x-scope"] = "instance"
        operations[_unique(f"{operation['action']}-{name}", operations)] = operation

    def _message(self, event: Event, action: str) -> str:
        """The name of an event's message; one that is emitted and handled alike has one."""
        components = self._document.setdefault("components", {})
        messages = components.setdefault("messages", {})
        kind = "send" if action == "send" else "receive"
        known = self._messages.get((kind, event.name))
        if known is not None:
            return known
        message: dict[str, Any] = {"name": event.name}
        message |= {k: v for k, v in _texts_of(event).items() if v}
        message["contentType"] = "application/json"
        message["payload"] = _draft_7(event.schema)
        name = _safe(event.name)
        if messages.get(name) != message:
            name = _unique(event.name, messages)
            messages[name] = message
        self._messages[kind, event.name] = name
        return name


def _texts_of(event: Event) -> dict[str, str]:
    return {"summary": event.summary, "description": event.description}


def _channel(channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = {"address": channel.address}
    if channel.action == "dead":
        found["title"] = "Dead letters"
        found["description"] = (
            "What no attempt could handle; the header x-gemstone-dead says why, as JSON."
        )
    if parameters := re.findall(r"\{(\w+)\}", channel.address):
        found["parameters"] = {name: {} for name in parameters}
    if channel.binding:
        found["bindings"] = {"amqp": {**channel.binding, "bindingVersion": "0.3.0"}}
    if channel.bound:
        found["x-bindings"] = [{"exchange": e, "pattern": p} for e, p in channel.bound]
    return found


def _safe(name: str) -> str:
    """A name as AsyncAPI takes it for what is referred to."""
    return _ID.sub("_", name.replace("*", "any").replace("#", "all")).strip("_") or "_"


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    safe = _safe(name)
    found, number = safe, 2
    while found in taken:
        found, number = f"{safe}_{number}", number + 1
    return found


def _draft_7(schema: Any) -> Any:
    """AsyncAPI's schemas are of draft 7, with a ``discriminator`` of their own.

    Draft 7 does not look at what stands beside a reference, and calls ``prefixItems`` ``items``.
    """
    if isinstance(schema, Mapping):
        made = {key: _draft_7(value) for key, value in schema.items()}
        if isinstance(made.get("discriminator"), dict):
            del made["discriminator"]
        if isinstance(made.get("prefixItems"), list):
            made["items"] = made.pop("prefixItems")
        if isinstance(ref := made.get("$ref"), str):
            prefix, _, name = ref.rpartition("/")
            rest = {key: value for key, value in made.items() if key != "$ref"}
            made = {"$ref": f"{prefix}/{_safe(name)}"}
            made = {"allOf": [made], **rest} if rest else made
        return made
    if isinstance(schema, (list, tuple)):
        return [_draft_7(each) for each in schema]
    return schema


# Back


def from_asyncapi(document: Any) -> Contract:
    """Read a document of AsyncAPI 3: what it sends is emitted, what it receives is handled.

    :param document: what json made of it.
    :raises BadDocument: for what is none, saying where.
    """
    try:
        return _read(document)
    except RecursionError:
        raise BadDocument("the document is nested too deeply") from None


def _read(document: Any) -> Contract:
    version = document.get("asyncapi") if isinstance(document, Mapping) else None
    if not isinstance(version, str):
        raise BadDocument("this is no AsyncAPI document: it has no text `asyncapi`")
    if not version.startswith("3."):
        raise BadDocument(f"AsyncAPI {version!r:.20} is not read here; 3.0 and 3.1 are")
    reader = Reader(document)
    operations = document.get("operations")
    emits: dict[str, Event] = {}
    handles: dict[str, Event] = {}
    for name, each in (operations if isinstance(operations, Mapping) else {}).items():
        where = f"operation {name!r:.60}"
        operation = reader.object(each, where)
        if operation.get("action") not in ("send", "receive"):
            raise BadDocument(f"{where}: the action is {operation.get('action')!r:.40}")
        if operation.get("x-dead-letters") is True:
            continue
        found = emits if operation["action"] == "send" else handles
        for event in _events(reader, operation, where):
            found.setdefault(event.name, event)
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    return Contract(
        name=text(info.get("title")),
        version=text(info.get("version")),
        description=text(info.get("description")),
        emits=tuple(emits[name] for name in sorted(emits)),
        handles=tuple(handles[name] for name in sorted(handles)),
        schemas=reader.schemas(),
    )


def _events(reader: Reader, operation: Mapping[str, Any], where: str) -> list[Event]:
    channel = reader.object(operation.get("channel"), f"{where}: channel")
    given = operation.get("messages")
    if given is None:
        told = channel.get("messages")
        given = [*told.values()] if isinstance(told, Mapping) else []
    if not isinstance(given, list):
        raise BadDocument(f"{where}: messages is no list")
    address = text(channel.get("address"))
    events = []
    for each in given:
        message = reader.object(each, f"{where}: messages")
        payload = message.get("payload")
        if isinstance(payload, Mapping) and "schemaFormat" in payload:
            payload = payload.get("schema")
        name = text(message.get("name")) or address
        if not name:
            raise BadDocument(f"{where}: neither the message nor the channel has a name")
        events.append(
            Event(
                name=name,
                schema=reader.schema(payload, f"event {name!r:.60}"),
                summary=text(message.get("summary")) or text(message.get("title")),
                description=text(message.get("description")),
                scope="instance" if operation.get("x-scope") == "instance" else "service",
            )
        )
    return events
