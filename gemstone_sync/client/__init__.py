"""The client: other services, called as if they were here. Importing it never patches.

Reading order: `remote_service` (what users hold), `namespaces` (``client.methods.x()``),
`structs` (calls, results, handles), `waiting` (for several handles), `background`; then one call's
way out: `sending` (attempts, with `retries`), `balancing` (which of the `urls`), `endpoint` (one
attempt, with `authentication`), `adapter` (requests' seam), `connections`, `exchange` (bytes on a
socket), `hosts` (in URLs); and back: `replies` (JSON), `faults` (exceptions).
"""

from .adapter import BaseAdapter, ServiceAdapter, response_of
from .authentication import BasicAuth, BearerToken, CookieToken, HeaderToken
from .remote_service import RemoteService
from .structs import AsyncMethodCall, BatchResult, MethodCall, Notification, Result
from .waiting import as_completed, first_completed, make_callbacks

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
    # adapters
    "BaseAdapter",
    "ServiceAdapter",
    "response_of",
]
