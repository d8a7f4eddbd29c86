"""A service on a real socket, for the duration of a with block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fixtures import S

__all__ = ["prepared", "running_service"]


@contextlib.contextmanager
def running_service(service: S | type[S], **attributes: Any) -> Iterator[S]:
    """Run a service on a free port.

    :param service: a service, or a class to make one of.
    :param attributes: set on the service first, whatever the environment and configuration files
        say; ``port`` is 0 unless given.

    In a process that is not patched the service has a real thread of its own.

    ::

        with running_service(MyService) as service:
            requests.post(service.url, json={...})
    """
    instance = prepared(service, {"port": 0, **attributes})
    instance.start(block=False)
    try:
        yield instance
    finally:
        instance.stop()


def prepared(service: S | type[S], attributes: Mapping[str, Any]) -> S:
    """Make a service whose given attributes count more than its environment and files."""
    from ..service.microservice import runner_of  # which patches

    instance = service() if isinstance(service, type) else service
    runner_of(instance).configure([])
    for name, value in attributes.items():
        if not hasattr(instance, name):
            raise AttributeError(f"{type(instance).__qualname__} has no attribute {name!r}")
        setattr(instance, name, value)
    return instance
