"""Being served by gunicorn: telling that it is so, without importing it."""

from __future__ import annotations

import signal
import sys
from typing import Any

__all__ = ["WORKER_BOOT_ERROR", "current_worker", "under_gunicorn"]

#: The exit code of a worker at which gunicorn's master gives up (``Arbiter.WORKER_BOOT_ERROR``).
WORKER_BOOT_ERROR = 3


def under_gunicorn() -> bool:
    """Tell whether gunicorn runs this process, as its master or as one of its workers."""
    return "gunicorn.arbiter" in sys.modules


def current_worker() -> Any:
    """The gunicorn worker that this process is; None in the master and everywhere else.

    A worker installs its signal handlers before it loads the application, and they are methods of
    the worker object: the one trace of it that an application can see.
    """
    base = sys.modules.get("gunicorn.workers.base")
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if base is not None and isinstance(owner, base.Worker) else None
