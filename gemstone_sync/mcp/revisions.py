"""The protocol's revisions, what differs between them, and which code leaves for which error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import (
    AccessDenied,
    DeadlineExceeded,
    InternalError,
    ResponseTooLarge,
    RpcError,
    ServerOverloaded,
    TooManyHops,
)

__all__ = [
    "ASSUMED",
    "HEADER_MISMATCH",
    "LEGACY",
    "MODERN",
    "REVISIONS",
    "UNSUPPORTED_VERSION",
    "Revision",
    "code_for",
]


@dataclass(frozen=True)
class Revision:
    """A revision of the protocol.

    :ivar modern: each request says of which revision it is; before, ``initialize`` did.
    :ivar structured: what ``structuredContent`` may be: nothing, an object, any value.
    """

    name: str
    modern: bool
    structured: Literal["none", "object", "any"]


MODERN = Revision("2026-07-28", True, "any")
#: The newest first.
LEGACY = (
    Revision("2025-11-25", False, "object"),
    Revision("2025-06-18", False, "object"),
    Revision("2025-03-26", False, "none"),
)
REVISIONS = {revision.name: revision for revision in (MODERN, *LEGACY)}
#: That of a request which names none (2025-06-18, "Protocol Version Header").
ASSUMED = LEGACY[-1]

#: The protocol's own codes (2026-07-28, "Error Codes").
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

#: -32000 … -32099 are the protocol's, which wants others outside all that JSON-RPC reserves.
_CODES = {
    ServerOverloaded.code: -31000,
    AccessDenied.code: -31001,
    DeadlineExceeded.code: -31002,
    TooManyHops.code: -31003,
    ResponseTooLarge.code: -31004,
}


def code_for(error: RpcError) -> int:
    """Return the code with which an error leaves that is no result of a tool.

    >>> code_for(ServerOverloaded()), code_for(InternalError())
    (-31000, -32603)
    """
    if -32099 <= error.code <= -32000:
        return _CODES.get(error.code, InternalError.code)
    return error.code
