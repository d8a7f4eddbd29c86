"""JSON-RPC 2.0 as a pure function of bytes: no sockets, no HTTP, no greenlets, no clock.

Reading order: `messages` (the frozen types), `codec` (JSON text <-> Python values) and
`bounded` (within a limit), `reader` (bytes -> messages) and `writer` (messages -> bytes, in both
wire formats).

Source: https://www.jsonrpc.org/specification
"""

from ..errors import UNSET, Unset
from .codec import PLAIN, Encoder, decode_json, encode_json
from .messages import ErrorObject, JsonRpcRequest, JsonRpcResponse, Params, RequestId
from .reader import Item, read_body
from .writer import WIRE_FORMATS, GemstoneWriter, ResponseWriter, StrictWriter, Writer

__all__ = [
    # messages
    "JsonRpcRequest",
    "JsonRpcResponse",
    "ErrorObject",
    "Params",
    "RequestId",
    "UNSET",
    "Unset",
    # bytes <-> messages
    "read_body",
    "Item",
    "ResponseWriter",
    "Writer",
    "StrictWriter",
    "GemstoneWriter",
    "WIRE_FORMATS",
    # JSON text <-> values
    "decode_json",
    "encode_json",
    "Encoder",
    "PLAIN",
]
