"""The process in which ``cpu=True`` methods are called: one call at a time, until nobody sends any.

It imports the module of the service, as every spawned process does, and starts no service.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gevent import monkey

from ..concurrency import Call, current_call
from ..ops import show_logs
from .container import Container

__all__ = ["CallSent", "Copy", "Outcome", "serve"]


class CallSent(NamedTuple):
    """A call: of which container, which attribute, with what, and in which call."""

    container: int
    attribute: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    call: Call | None


class Copy(NamedTuple):
    """A container as it is sent: its class, what could be pickled of it, and what could not."""

    cls: Any
    state: Mapping[str, bytes]
    left: tuple[str, ...]


class Outcome(NamedTuple):
    """The end of a call.

    :ivar value: the result, pickled; None when it raised something.
    :ivar error: what it raised, pickled; None when that cannot be.
    :ivar text: class and text of it.
    :ivar stack: its traceback.
    """

    value: bytes | None
    error: bytes | None = None
    text: str = ""
    stack: str = ""

    def result(self) -> Any:
        """Return the result, or raise what the method has raised, of the same class if it can be.

        :raises RuntimeError: for an exception that cannot cross.
        """
        if self.value is not None:
            return pickle.loads(self.value)
        error: Any = None if self.error is None else pickle.loads(self.error)
        if not isinstance(error, BaseException):
            error = RuntimeError(self.text)
        raise error from InAnotherProcess(self.stack)


class InAnotherProcess(Exception):
    """Stands in a log for where another process was when it raised something."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


_busy = _ending = False


def serve(connection: Any) -> None:
    """Make calls until the other end is closed, or this process is told to end."""
    global _busy
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the service
    signal.signal(signal.SIGTERM, _end_when_idle)
    _end_with_parent()
    try:
        containers = _made_of(connection.recv_bytes())
        connection.send_bytes(b"ready")
        while not _ending:
            text = connection.recv_bytes()
            _busy = True
            connection.send_bytes(pickle.dumps(_outcome(text, containers)))
            _busy = False
    except (EOFError, OSError):
        pass
    os._exit(0)


def _end_when_idle(number: int, frame: object) -> None:
    """Finish the call: a supervisor that signals all processes means the service to drain."""
    global _ending
    _ending = True
    if not _busy:
        os._exit(0)


def _end_with_parent() -> None:
    """End at once, in the midst of a call too, when the service was killed."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None
    poll = monkey.get_original("select", "poll")()
    poll.register(parent.sentinel)

    def wait() -> None:
        poll.poll()
        os._exit(1)

    monkey.get_original("_thread", "start_new_thread")(wait, ())


def _made_of(text: bytes) -> list[Container]:
    copies: list[Copy] = pickle.loads(text)
    made: list[Any] = [copy.cls.__new__(copy.cls) for copy in copies]
    for one, copy in zip(made, copies, strict=True):
        state = {name: _Unpickler(io.BytesIO(v), made).load() for name, v in copy.state.items()}
        vars(one).update(state, _gemstone_left=copy.left)
    service, *modules = made
    for module in modules:
        module.microservice = service
    service.logger = service.get_logger()
    show_logs(service.log_format, service.log_level)
    return made


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, made: Sequence[Container]) -> None:
        super().__init__(file)
        self._made = made

    def persistent_load(self, number: int) -> Container:
        return self._made[number]


def _outcome(text: bytes, containers: Sequence[Container]) -> Outcome:
    try:
        sent: CallSent = pickle.loads(text)
        current_call.set(sent.call)
        method = getattr(containers[sent.container], sent.attribute)
        value = method(*sent.args, **sent.kwargs)
        try:
            return Outcome(pickle.dumps(value))
        except Exception as error:
            what = f"{sent.attribute} has cpu=True: its result cannot be pickled: {error}"
            raise TypeError(what) from error
    except BaseException as error:
        stack = "".join(traceback.format_exception(error))
        return Outcome(None, _pickled(error), f"{type(error).__name__}: {error}", stack)


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception, if the same comes out at the other end."""
    try:
        text = pickle.dumps(error)
        return text if type(pickle.loads(text)) is type(error) else None
    except Exception:
        return None
