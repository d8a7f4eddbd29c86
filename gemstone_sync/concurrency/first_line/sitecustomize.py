"""Run before the first line of a program that `starting_over` has started over: patch, and vanish.

Python's `site` imports this instead of the user's own ``sitecustomize``, which is imported next.
The folder of this file is nowhere else on a path.
"""

import os
import signal
import sys


def _begin() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(folder)))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != folder]
    # Ctrl-C until the user's first line ends the process; `site` would make a traceback of it.
    on_interrupt = signal.getsignal(signal.SIGINT)
    if on_interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, package_parent)
    try:
        from gemstone_sync.concurrency import starting_over

        starting_over.begin_patched()
    finally:
        sys.path.remove(package_parent)
        signal.signal(signal.SIGINT, on_interrupt)


_begin()
_own = sys.modules.pop(__name__)
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401  # the next one
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
finally:
    sys.modules.setdefault(__name__, _own)  # the import of this one ends with asking for it
