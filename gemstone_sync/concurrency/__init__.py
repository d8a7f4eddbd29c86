"""Greenlets: patching, calls at once, deadlines, context. No HTTP, no JSON.

Reading order: `patching` (the one function that monkey patches), `older_objects` (what it comes too
late for), `mending` (what can be done about it), `blocked` (telling when that was not enough),
`starting_over` and `repeating` (so that it does not come late), `hosts` (what it would stop),
`libraries` (what waits in C, mended in ``cooperative_…``), `across_threads` (what greenlets and
native threads wait for together), `shared_sockets` (which both use), `signal_handlers` (which may
wait), `native` (threads for what blocks), `calls` (what is known of the running call, and spawning
that keeps it), `slots` (how many calls run at once), `deadlines`.
"""

from .blocked import watch_this_hub
from .calls import (
    USER_FAULTS,
    Call,
    current_call,
    current_trace,
    has_thread_locals,
    let_others_run,
    outgoing_headers,
    spawn,
    travelling_id,
)
from .children import Keeper, end_children, keep_from_children, kill_children
from .cooperative_asyncio import run_async
from .deadlines import DeadlineReached, Deadlines
from .hosts import host, is_at_prompt, patch_unless_hosted
from .patching import is_patched, patch, patching_wanted
from .repeating import leads_to
from .slots import CallSlots, NoSlot
from .starting_over import has_started_over, start_over_if_due

__all__ = [
    # monkey patching
    "patch",
    "is_patched",
    "patching_wanted",
    "patch_unless_hosted",
    "host",
    "is_at_prompt",
    "start_over_if_due",
    "has_started_over",
    "leads_to",
    "watch_this_hub",
    # the running call
    "Call",
    "current_call",
    "current_trace",
    "has_thread_locals",
    "outgoing_headers",
    "travelling_id",
    "spawn",
    "let_others_run",
    "USER_FAULTS",
    "run_async",
    # processes
    "Keeper",
    "keep_from_children",
    "end_children",
    "kill_children",
    # bounds
    "CallSlots",
    "NoSlot",
    "Deadlines",
    "DeadlineReached",
]
