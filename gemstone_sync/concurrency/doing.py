"""Tell from a frame what the program does there: which method, event or periodic task it serves.

Nothing is noted while calls run. Whoever looks at a stack, because it holds the hub or somebody
asked for it, finds the functions below which the user's code runs, and reads their variables.
"""

from __future__ import annotations

import contextlib
import gc
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

__all__ = [
    "Doing",
    "Waiting",
    "collector_paused",
    "doing",
    "frames_from",
    "place",
    "tells_doing",
    "tells_waiting",
    "waiting",
]

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=Callable[..., Any])


class Doing(NamedTuple):
    """Names what is being done.

    :ivar kind: ``"method"``, ``"event"`` or ``"periodic task"``; or what else it is.
    :ivar name: its name.
    :ivar call: the running `Call`, where there is one.
    :ivar frame: the frame of the user's own function; None when none has begun.
    """

    kind: str
    name: str
    call: Any = None
    frame: types.FrameType | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name[:200]!r}"


_TELLERS: dict[types.CodeType, Callable[[Mapping[str, Any]], Doing]] = {}


def tells_doing(read: Callable[[Mapping[str, Any]], Doing]) -> Callable[[F], F]:
    """Mark a function as one below which the user's code runs.

    :param read: makes a `Doing` of the function's variables. It is called in another thread.
    """
    return _marked(_TELLERS, read)


def _marked(marks: dict[types.CodeType, R], read: R) -> Callable[[F], F]:
    def mark(function: F) -> F:
        marks[function.__code__] = read
        return function

    return mark


def doing(frame: types.FrameType | None) -> Doing | None:
    """Return what is done in a frame; None for what serves nothing that has a name."""
    user: types.FrameType | None = None
    for each in frames_from(frame):
        read = _TELLERS.get(each.f_code)
        if read is None:
            if not is_ours(each.f_code):
                user = each
            continue
        try:
            return read(each.f_locals)._replace(frame=user)
        except (KeyError, AttributeError):  # it has only begun
            return None
    return None


class Waiting(NamedTuple):
    """Names what a greenlet waits for, where the frame that it waits in says too little.

    :ivar what: a place, a process.
    :ivar thread: the native thread that goes on in its stead.
    """

    what: str
    thread: int | None = None


_WAITING: dict[types.CodeType, Callable[[Mapping[str, Any]], Waiting]] = {}


def tells_waiting(read: Callable[[Mapping[str, Any]], Waiting]) -> Callable[[F], F]:
    """Mark a function that waits for something that has a name.

    :param read: makes a `Waiting` of the function's variables. It is called in another thread.
    """
    return _marked(_WAITING, read)


def waiting(frame: types.FrameType | None) -> Waiting | None:
    """Return what is waited for in a frame; None where no function on its stack says it."""
    for each in frames_from(frame):
        read = _WAITING.get(each.f_code)
        if read is not None:
            try:
                return read(each.f_locals)
            except (KeyError, AttributeError):  # it has only begun
                return None
    return None


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Collect no garbage while frames of other threads are read.

    CPython 3.11 makes the frame object of a caller when one asks for it, and may begin to collect
    in the middle of that. What then runs in Python lets the other thread go on and leave that very
    function: the new object describes memory that is no frame any more, and the process crashes.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def frames_from(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    """Yield a frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


class Position(Protocol):
    """Where a frame is; the frame itself, while nothing runs in it."""

    @property
    def f_code(self) -> types.CodeType: ...

    @property
    def f_lasti(self) -> int: ...

    @property
    def f_lineno(self) -> int | None: ...


def place(frame: Position) -> str:
    """Say where a frame is: ``report at /srv/service.py:12``."""
    code = frame.f_code
    name: str = getattr(code, "co_qualname", code.co_name)  # since Python 3.11
    return f"{name} at {code.co_filename}:{frame.f_lineno}"


_PACKAGE = __file__.rpartition("/")[0].rpartition("/")[0] + "/"


def is_ours(code: types.CodeType) -> bool:
    """Tell whether a code is the framework's own."""
    return code.co_filename.startswith(_PACKAGE)
