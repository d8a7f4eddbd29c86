"""Bytes and a context in, bytes or nothing out: what every transport shares.

Reading order: `middleware` (what is around a call), `methods` (what can be called, prepared at
start), `observed` (a call as observers see it) and `traced` (its span), `context` (what a transport
tells of one body), `log_throttle` (how often the log hears of what callers do wrong), `dispatcher`
(one way through: read, look up, place and deadline, authenticate, bind, call, encode), `batch`
(items in parallel).
"""

from .context import CallContext
from .dispatcher import Dispatcher, DispatchSettings
from .log_throttle import LogThrottle, log_suppressed
from .methods import Hooks, Method
from .middleware import Around, Nest, nest
from .observed import ObservedCall

__all__ = [
    "CallContext",
    "DispatchSettings",
    "Dispatcher",
    "Around",
    "Hooks",
    "Method",
    "Nest",
    "nest",
    "ObservedCall",
    "LogThrottle",
    "log_suppressed",
]
