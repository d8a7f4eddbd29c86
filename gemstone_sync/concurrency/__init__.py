"""Greenlets: patching, calls at once, deadlines, context. No HTTP, no JSON.

Reading order: `patching` (the one function that monkey patches), `calls` (what is known of the
running call, and spawning that keeps it), `slots` (how many calls run at once), `deadlines`.
"""

from .calls import USER_FAULTS, Call, current_call, outgoing_headers, spawn
from .deadlines import DeadlineReached, Deadlines
from .patching import is_patched, patch, patching_wanted
from .slots import CallSlots, NoSlot

__all__ = [
    # monkey patching
    "patch",
    "is_patched",
    "patching_wanted",
    # the running call
    "Call",
    "current_call",
    "outgoing_headers",
    "spawn",
    "USER_FAULTS",
    # bounds
    "CallSlots",
    "NoSlot",
    "Deadlines",
    "DeadlineReached",
]
