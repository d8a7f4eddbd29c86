"""Calls of ``cpu=True`` methods in processes, as the service makes them; see `process_main`.

The processes are spawned, not forked: none has a copy of the service's sockets and locks. One makes
one call at a time, so it can be killed at the call's deadline and nothing else ends with it. They
begin when they are needed, each takes a thousand calls, and those that a stop finds idle end.

The service itself cannot be sent. ``self`` is a copy there: the settings, and those attributes that
can be pickled, as they were when the process began.
"""

from __future__ import annotations

import io
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..callables import name_of
from ..concurrency import (
    Call,
    CallSlots,
    Waiting,
    carried_headers,
    current_call,
    current_trace,
    spawn,
    tells_waiting,
)
from ..concurrency.waiting import wait_until_ready
from ..config.declaration import declarations_of, is_ours
from ..errors import ServiceConfigurationError
from .base import ServiceBase
from .container import Container
from .process_main import CallSent, Copy, Outcome, serve

__all__ = ["ProcessCalls"]

#: Calls after which a process is replaced: what libraries leak goes with it.
_CALLS = 1000
#: Seconds for which one may start, whatever happens to the call that it was started for.
_START = 300.0

#: What a service has of its own, and what comes of it.
_FRAMEWORK = {
    *("logger", "lifecycle", "plugin_set", "microservice", "_encoder", "_executor", "_documents"),
    *("_assembly", "_runner", "_event_runtime", "_discovery_runtime", "_emitted"),
    "_gemstone_pristine",
}


class ProcessCalls:
    """Makes calls in a bounded number of processes.

    :param containers: the service, and its modules.
    :param size: processes at most.
    :param max_waiting, max_wait: see `CallSlots`.
    """

    def __init__(
        self, containers: Sequence[Container], size: int, max_waiting: int, max_wait: float
    ) -> None:
        self.slots = CallSlots(size, max_waiting, max_wait)
        self._containers = containers
        self._idle: list[_Process] = []

    def wrap(self, function: Callable[..., Any], attribute: str) -> Callable[..., Any]:
        """Return what calls a method in a process.

        :param attribute: its name on its container.
        :raises ServiceConfigurationError: when another process could not find its class.
        """
        home = getattr(function, "__self__", None)
        index = next((i for i, each in enumerate(self._containers) if each is home), None)
        if index is None:
            raise ServiceConfigurationError(
                f"{name_of(function)} has cpu=True: it must be a method of an instance"
            )
        _class_to_import(type(self._containers[index]))

        def run(*args: Any, **kwargs: Any) -> Any:
            call = current_call.get()
            sent = CallSent(index, attribute, args, kwargs, call and _sent(call))
            try:
                text = pickle.dumps(sent)
            except Exception as error:
                raise TypeError(
                    f"{name_of(function)} has cpu=True: what it is called with cannot be pickled: "
                    f"{error}"
                ) from error
            return self._call(text, name_of(function))

        return run

    @tells_waiting(lambda local: Waiting(str(local.get("process", "a process"))))
    def _call(self, text: bytes, name: str) -> Any:
        self.slots.acquire()
        try:
            process = self._take()
            try:
                outcome = process.call(text, name)
            except BaseException:  # its deadline, above all
                if process.is_starting():  # else no process would ever start on a busy machine
                    self._idle.append(process)
                else:
                    process.kill()
                raise
            if process.calls < _CALLS:
                self._idle.append(process)
            else:
                process.end()
        finally:
            self.slots.release()
        return outcome.result()

    def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive():
                return process
            process.kill()
        return _Process(_copies_of(self._containers))

    def stop(self) -> None:
        """End those that are idle; those at work end with the calls that they make."""
        while self._idle:
            self._idle.pop().end()


class _Process:
    def __init__(self, copies: bytes) -> None:
        import multiprocessing  # not before: most services have no use for it

        context = multiprocessing.get_context("spawn")
        self.calls = 0
        self._ready, self._begun = False, time.monotonic()
        self._connection, theirs = context.Pipe()
        # A daemon: it ends with us.
        self._process = context.Process(
            target=serve, args=(theirs,), name="gemstone_sync cpu", daemon=True
        )
        self._process.start()
        theirs.close()
        self._connection.send_bytes(copies)

    def __str__(self) -> str:
        return f"process {self._process.pid}"

    def is_alive(self) -> bool:
        return self._process.is_alive() and not (self._ready and self._connection.poll())

    def is_starting(self) -> bool:
        """Tell whether it has begun no call yet, and is not late."""
        is_due = time.monotonic() < self._begun + _START
        return is_due and not self._ready and self._process.is_alive()

    def call(self, text: bytes, name: str) -> Outcome:
        """Make a call.

        :raises RuntimeError: when the process has ended instead of answering.
        """
        self.calls += 1
        try:
            if not self._ready:
                wait_until_ready(self._connection.fileno())
                self._connection.recv_bytes()
                self._ready = True
            self._connection.send_bytes(text)
            wait_until_ready(self._connection.fileno())
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            self._process.join(1)
            raise RuntimeError(
                f"the process of {name} (cpu=True) ended with exit code {self._process.exitcode}"
            ) from None
        outcome = pickle.loads(answer)
        assert isinstance(outcome, Outcome)
        return outcome

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        self._connection.close()  # which it takes for the end
        spawn(self._process.join)


# What goes there


def _sent(call: Call) -> Call:
    """Return the same call for another process: what runs now is its parent."""
    trace = current_trace()
    return Call(
        *(call.deadline, call.hops, call.request_id, trace.get("traceparent")),
        carried=carried_headers(trace.get("tracestate"), trace.get("baggage")),
        work=call.work,
    )


def _class_to_import(cls: type) -> Any:
    """Find the class by which a process makes a copy: the first one that an import finds.

    A test's subclass of a service stands nowhere.

    :raises ServiceConfigurationError: when there is none.
    """
    for base in cls.__mro__:
        found: Any = sys.modules.get(base.__module__)
        if base.__module__ == "__main__" and not hasattr(found, "__file__"):
            continue
        for part in base.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is base and issubclass(base, Container) and not is_ours(base):
            return base
    raise ServiceConfigurationError(
        f"{cls.__qualname__} has methods with cpu=True: it must stand at the top of a file, where "
        "other processes can import it"
    )


def _copies_of(containers: Sequence[Container]) -> bytes:
    return _pickled([_copy_of(each, containers) for each in containers], containers)


def _copy_of(container: Container, containers: Sequence[Container]) -> Copy:
    values = {k: v for k, v in vars(container).items() if k not in _FRAMEWORK}
    if isinstance(container, ServiceBase):
        settings = declarations_of(type(container))
        values |= {name: getattr(container, name) for name in settings if name not in _FRAMEWORK}
    state, left = {}, []
    for name, value in values.items():
        try:
            state[name] = _pickled(value, containers)
        except Exception:  # a lock, a connection, …: told when it is asked for
            left.append(name)
    cls = _class_to_import(type(container)) if type(container) is not Container else Container
    return Copy(cls, state, tuple(left))


def _pickled(value: Any, containers: Sequence[Container]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, containers).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Writes a number for each container: there it stands for the copy."""

    def __init__(self, file: io.BytesIO, containers: Iterable[Container]) -> None:
        super().__init__(file)
        self._numbers = {id(each): number for number, each in enumerate(containers)}

    def persistent_id(self, value: Any) -> int | None:
        return self._numbers.get(id(value))
