"""Greenlets: patching, calls at once, deadlines, context. No HTTP, no JSON.

Reading order: `patching` (the one function that monkey patches), `older_objects` (what it comes too
late for), `mending` (what can be done about it), `doing`, `stacks`, `blocked` (telling what the hub
is at, and when something holds it), `asked_for_stacks` (telling it who asks),
`starting_over` and `repeating` (so that it does not come late), `hosts` (what it would stop),
`libraries` (what waits in C, mended in ``cooperative_…``), `across_threads` (what greenlets and
native threads wait for together), `shared_sockets` (which both use), `signal_handlers` (which may
wait), `native` (threads for what blocks), `calls` (what is known of the running call, and spawning
that keeps it), `slots` (how many calls run at once), `deadlines`.

Processes, programs, coroutines, threads
----------------------------------------

Other calls are answered meanwhile, in methods, hooks and `get_executor()`'s threads alike:

- Processes. `multiprocessing` (`Pool`, `Process`, queues, pipes, managers, locks),
  `ProcessPoolExecutor` and joblib, by fork, spawn and forkserver. A forked child has an event
  loop of its own, closes the server's sockets and takes its signals back. A child that is killed
  is a `BrokenProcessPool`. When a signal stops the service, processes that still work after
  `stop_timeout` are ended. What the main module does not guard by `if __name__ == "__main__":`,
  spawned processes do too.
- Programs. `subprocess`, `os.popen`, `os.system`, `os.waitpid`,
  `asyncio.create_subprocess_exec`. What a method forks by `os.fork` goes on alone, as
  multiprocessing's children do; end it by `os._exit` or `os.exec…`.
- Coroutines. `gemstone_sync.run_async(coroutine)` gives what it returns or raises, in any
  number of calls at once; at the call's deadline it is cancelled. `asyncio.run`, loops of SDKs,
  `anyio.run` and `async_to_sync` work too. It patches nothing, so any program may use it, a
  notebook too. uvloop and trio are refused, with what to do instead.
- Threads. `threading.Thread` is a greenlet. `get_executor()` has native threads, for what
  computes or waits in C; the service waits for them within its `stop_timeout`. They may do I/O,
  with the clients that calls use too, and the process ends with its own exit code. Locks,
  conditions, events, barriers and queues work between greenlets and native threads, in both
  directions; logging, which holds a lock, does too.

What becomes of other libraries: `libraries`. What is patched when: `gemstone_sync.patch`.
"""

from .asked_for_stacks import answer_always, show_stacks_on_request
from .blocked import blocks, watch_no_more, watch_this_hub
from .calls import (
    USER_FAULTS,
    Call,
    Work,
    carried_headers,
    current_call,
    current_trace,
    has_thread_locals,
    let_others_run,
    outgoing_headers,
    spawn,
    travelling_id,
)
from .children import end_children, keep_from_children, kill_children
from .cooperative_asyncio import run_async
from .deadlines import DeadlineReached, Deadlines
from .doing import Doing, Waiting, tells_doing, tells_waiting
from .hosts import host, is_at_prompt, patch_unless_hosted
from .patching import is_patched, patch
from .repeating import leads_to
from .slots import CallSlots, NoSlot
from .stacks import stacks
from .starting_over import has_started_over, start_over_if_due

__all__ = [
    # monkey patching
    "patch",
    "is_patched",
    "patch_unless_hosted",
    "host",
    "is_at_prompt",
    "start_over_if_due",
    "has_started_over",
    "leads_to",
    # what the hub is at
    "watch_this_hub",
    "watch_no_more",
    "blocks",
    "Doing",
    "tells_doing",
    "tells_waiting",
    "stacks",
    "show_stacks_on_request",
    "answer_always",
    # the running call
    "Call",
    "carried_headers",
    "Waiting",
    "Work",
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
    "keep_from_children",
    "end_children",
    "kill_children",
    # bounds
    "CallSlots",
    "NoSlot",
    "Deadlines",
    "DeadlineReached",
]
