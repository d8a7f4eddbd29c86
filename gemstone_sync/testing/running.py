"""A service on a real socket, for the duration of a with block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gevent

from ..concurrency import is_patched

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["running_service"]


@contextlib.contextmanager
def running_service(
    service: MicroService | type[MicroService], **attributes: Any
) -> Iterator[MicroService]:
    """Run a service on a free port.

    :param service: a service, or a class to make one of.
    :param attributes: set on the service first, whatever the environment and configuration files
        say; ``port`` is 0 unless given.

    In a process that is not patched the service has a real thread of its own.

    ::

        with running_service(MyService) as service:
            requests.post(service.url, json={...})
    """
    instance = service() if isinstance(service, type) else service
    # First, so that a port in the environment or in a .env file does not count more than these.
    instance._configure_once([])
    for name, value in {"port": 0, **attributes}.items():
        if not hasattr(instance, name):
            raise AttributeError(f"{type(instance).__qualname__} has no attribute {name!r}")
        setattr(instance, name, value)
    run = _in_this_thread if is_patched() else _in_own_thread
    with run(instance):
        yield instance


@contextlib.contextmanager
def _in_this_thread(service: MicroService) -> Iterator[None]:
    service.start(block=False)
    try:
        yield
    finally:
        service.stop()


@contextlib.contextmanager
def _in_own_thread(service: MicroService) -> Iterator[None]:
    started, leave = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            service.start(block=False)
        except BaseException as error:
            failures.append(error)
        started.set()
        if failures:
            return
        while not leave.is_set():
            gevent.sleep(0.01)  # this thread's own event loop
        service.stop()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    started.wait()
    if failures:
        raise failures[0]
    try:
        yield
    finally:
        leave.set()
        thread.join()
