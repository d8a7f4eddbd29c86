"""pytest fixtures. Nothing is imported from the framework, and nothing patched, until one is used
(in pytest-xdist's processes a part that helps them is).

- ``service_client``: a function that makes a started `ServiceClient` of a service or its class.
- ``running_service``: a function that starts a service on a free port and returns it.
- ``recorded_events``: a function that records what a service, or a transport, emits from then on.
- ``event_waiter``: a function that makes what waits for an event that is emitted from then on.
- ``strict_errors``: fails the test when a method raises or returns what it does not declare.

Their types are in `gemstone_sync.testing` too: ``service_client: ServiceClientFixture``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..service import MicroService
    from .client import ServiceClient
    from .events import Emitter, EventRecorder, EventWaiter
    from .fixtures import (
        EventWaiterFixture,
        RecordedEventsFixture,
        RunningServiceFixture,
        S,
        ServiceClientFixture,
    )
    from .strict import StrictErrors

__all__ = ["event_waiter", "recorded_events", "running_service", "service_client", "strict_errors"]


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-xdist's processes, where this is one, hear of their tests though patched."""
    if hasattr(config, "workerinput"):
        from .xdist import wait_natively

        wait_natively(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that uses `strict_errors` in itself, and not after it."""
    yield
    strict = getattr(item, "funcargs", {}).get("strict_errors")
    if strict is not None:
        strict.check()


@pytest.fixture
def service_client() -> Iterator[ServiceClientFixture]:
    """``service_client(MyService)`` gives an in-process client, stopped after the test."""
    from .client import ServiceClient
    from .running import prepared

    with contextlib.ExitStack() as stack:

        def make(
            service: MicroService | type[MicroService],
            headers: Mapping[str, str] | None = None,
            **attributes: Any,
        ) -> ServiceClient:
            return stack.enter_context(ServiceClient(prepared(service, attributes), headers))

        yield make


@pytest.fixture
def running_service() -> Iterator[RunningServiceFixture]:
    """``running_service(MyService)`` starts it on a free port; it is stopped at the end."""
    from .running import running_service as run

    with contextlib.ExitStack() as stack:

        def make(service: S | type[S], **attributes: Any) -> S:
            return stack.enter_context(run(service, **attributes))

        yield make


@pytest.fixture
def recorded_events() -> Iterator[RecordedEventsFixture]:
    """``recorded_events(service).events`` are those that it has emitted since."""
    from .events import record_events

    with contextlib.ExitStack() as stack:

        def make(emitter: Emitter, *, send: bool = True) -> EventRecorder:
            recorder = record_events(emitter, send=send).__enter__()
            stack.callback(recorder.stop)
            return recorder

        yield make


@pytest.fixture
def event_waiter() -> Iterator[EventWaiterFixture]:
    """``event_waiter(service, "said_hello").wait()`` is the body, once it was emitted since."""
    from .events import event_waiter as wait_for

    with contextlib.ExitStack() as stack:

        def make(emitter: Emitter, event_name: str) -> EventWaiter:
            return stack.enter_context(wait_for(emitter, event_name))

        yield make


@pytest.fixture
def strict_errors() -> Iterator[StrictErrors]:
    """Fails the test when a method raises or returns what its contract does not say."""
    from .strict import strict_errors as watch

    with watch() as strict:
        yield strict
