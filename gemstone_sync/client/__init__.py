"""Calls other services as if they were here. Importing it never patches.

Reading order: `remote_service` (what users hold), `options`, `namespaces` (``client.methods.x()``),
`typed` (``client.typed(Api)``), `generated` (what written clients use), `describing` and
`contracts` (what a service says of itself), `structs` (calls, results, handles), `background` (and
waiting for several); then one call's way out: `sending` (attempts, with `retries`; `observed` and
`traced` tell of it), `balancing` (which of the `urls`), `endpoint` (one attempt, with
`authentication`), `messages` (request, reply, and what carries them), `adapter`, `connections`,
`exchange` (bytes on a socket), `hosts` (in URLs), or `bridge` (requests in their place); and back:
`replies` (JSON), `exceptions` (foreign ones as ours).
"""

from .adapter import ServiceAdapter
from .authentication import BasicAuth, BearerToken, CookieToken, HeaderToken
from .background import as_completed, first_completed, make_callbacks
from .messages import Adapter, HttpReply, HttpRequest
from .remote_service import RemoteService
from .structs import AsyncMethodCall, BatchResult, MethodCall, Notification, Result

__all__ = [
    # calling
    "RemoteService",
    "MethodCall",
    "Notification",
    "Result",
    "BatchResult",
    # in the background
    "AsyncMethodCall",
    "as_completed",
    "first_completed",
    "make_callbacks",
    # authentication
    "HeaderToken",
    "CookieToken",
    "BearerToken",
    "BasicAuth",
    # what carries calls
    "Adapter",
    "HttpRequest",
    "HttpReply",
    "ServiceAdapter",
]
