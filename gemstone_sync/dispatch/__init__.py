"""Bytes and a context in, bytes or nothing out: what every transport shares.

Reading order: `methods` (what can be called, prepared at start), `context` (what a transport tells
of one body), `refusals` (how often the log hears of what callers do wrong), `dispatcher` (one way
through: read, look up, place and deadline, authenticate, bind, call, encode), `batch` (items in
parallel).
"""

from .context import CallContext
from .dispatcher import Dispatcher, DispatchSettings
from .methods import Hooks, Method
from .refusals import Refusals

__all__ = ["CallContext", "DispatchSettings", "Dispatcher", "Hooks", "Method", "Refusals"]
