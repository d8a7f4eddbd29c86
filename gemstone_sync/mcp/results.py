"""Write the outcome of a call: content, structured content, or what a model can mend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import UNSET
from ..protocol import PLAIN, Encoder, ErrorObject, JsonRpcResponse, decode_json, encode_json
from ..protocol.bounded import encode_bounded
from .content import is_media
from .revisions import Revision
from .tools import Tool

__all__ = ["ResultWriter", "written"]

#: Of a result that may hold images or audio: it has one of the kinds, and so the word.
_MARKS = (b'"type":"image"', b'"type":"audio"')


def written(id: Any, member: str, value: Any) -> bytes:
    """Write a response; one whose id could not be read has none, as the protocol's schema says.

    :param member: ``result`` or ``error``.
    """
    response = {"jsonrpc": "2.0", **({} if id is None else {"id": id}), member: value}
    return encode_json(response)


@dataclass(frozen=True)
class ResultWriter:
    """Writes the response of a method as the result of a tool.

    :param id: of the request.
    :param beside: what each result of the revision has.
    """

    tool: Tool
    revision: Revision
    id: Any
    beside: dict[str, Any]

    def write_response(
        self, response: JsonRpcResponse, limit: int, encoder: Encoder = PLAIN
    ) -> bytes:
        """Write it, as `protocol.ResponseWriter` says; errors are results that say what to do."""
        if response.error is not UNSET:
            text = encode_bounded(told(response.error), limit, encoder)
            content: list[Any] = [{"type": "text", "text": msgspec.Raw(text)}]
            members = {"content": content, "isError": True}
        else:
            members = self._members(encode_bounded(response.result, limit, encoder))
        return written(self.id, "result", {**members, **self.beside})

    def _members(self, text: bytes) -> dict[str, Any]:
        if any(mark in text for mark in _MARKS) and (media := _media_in(decode_json(text))):
            return {"content": media, "isError": False}
        shown = msgspec.Raw(text) if text.startswith(b'"') else text.decode()
        members: dict[str, Any] = {"content": [{"type": "text", "text": shown}]}
        if (structured := self._structured(text)) is not None:
            members["structuredContent"] = msgspec.Raw(structured)
        return {**members, "isError": False}

    def _structured(self, text: bytes) -> bytes | None:
        kind = self.revision.structured
        if kind == "any":
            return text
        if kind == "none":
            return None
        says_nothing = self.tool.outputs is None
        is_object = text.startswith(b"{") if says_nothing else self.tool.gives_object
        return text if is_object else b'{"result":%b}' % text


def _media_in(result: Any) -> list[Any] | None:
    """Make content of images, audio, and texts between them; None of what has none."""
    parts = result if isinstance(result, list) else [result]
    if not any(map(is_media, parts)):
        return None
    return [part if is_media(part) else {"type": "text", "text": _text(part)} for part in parts]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def told(error: ErrorObject) -> str:
    """Tell a model what went wrong: which argument, and why; or what the method says of it.

    >>> told(ErrorObject(-32602, "Invalid params", {"parameters": [{"name": "a", "reason": "no"}]}))
    'Invalid params: a: no'
    """
    data = error.data
    if data is UNSET or data is None:
        return error.message
    if isinstance(data, dict) and isinstance(faults := data.get("parameters"), list):
        parts = [_fault(each) for each in faults]
        if None not in parts:
            return f"{error.message}: {'; '.join(filter(None, parts))}"
    return f"{error.message}: {_text(data)}"


def _fault(fault: Any) -> str | None:
    if not isinstance(fault, dict) or "reason" not in fault:
        return None
    return f"{fault.get('name', fault.get('position'))}: {fault['reason']}"
