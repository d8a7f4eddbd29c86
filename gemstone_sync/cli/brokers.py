"""Share what the commands for events need: which broker, and waiting for it.

The work with the broker is done by a thread of the event package's own; the process is not patched.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..broker_urls import BROKER_SCHEMES, BROKER_URLS, scheme_of
from ..errors import BrokerUnavailable, ServiceConfigurationError
from .options import seconds

if TYPE_CHECKING:
    from ..event.transport import BrokerEventTransport

__all__ = [
    "BrokerLog",
    "broker_options",
    "stop_in_time",
    "transport_of",
    "transport_option",
    "wait_until_ready",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_VARIABLE = "GEMSTONE_EVENT_TRANSPORTS"

#: Seconds between two looks whether a connection is there.
_INTERVAL = 0.005


def transport_option(function: _Function) -> _Function:
    """Add ``--transport``, whose value is None when it is not given."""
    return click.option(
        "--transport",
        metavar="URL",
        envvar=_VARIABLE,
        callback=_first,
        help=f"The broker: {BROKER_URLS}, with the options of its transport, such as "
        f"?application=shop.  [env: {_VARIABLE}, the first of it]",
    )(function)


def broker_options(function: _Function) -> _Function:
    """Add ``--transport`` and ``--timeout``."""
    timeout = click.option(
        "--timeout",
        type=seconds(),
        default=10.0,
        show_default="10s",
        metavar="DURATION",
        help="How long the broker may take.",
    )
    return transport_option(timeout(function))


def _first(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    source = ctx.get_parameter_source(param.name or "")
    if value and source is click.core.ParameterSource.ENVIRONMENT:
        # A service has a list of them there.
        from ..config.setting_types import read_list

        value = str((read_list(value) or [""])[0])
    return value or None


def transport_of(url: str | None) -> BrokerEventTransport:
    """Make the transport that a URL names; nothing is connected yet.

    :raises click.UsageError: for none, one that two processes cannot meet at, or an unknown one.
    :raises ServiceConfigurationError: when the URL cannot be used.
    """
    if url is None:
        raise click.UsageError(
            f"which broker? Give --transport URL, or set {_VARIABLE}: {BROKER_URLS}"
        )
    scheme = scheme_of(url)
    if scheme == "memory" or url.endswith(":memory:"):
        where = "memory://" if scheme == "memory" else ":memory:"
        raise click.UsageError(
            f"{where} lies within one process, which no other can reach; there are {BROKER_URLS}"
        )
    if scheme and scheme not in BROKER_SCHEMES:
        # The rest of the URL is not shown: it may hold a password.
        raise click.UsageError(f"no events over {scheme!r}://; there are {BROKER_URLS}")
    from ..event.transport import transport_from_url

    try:
        return transport_from_url(url)
    except ServiceConfigurationError as error:
        raise ServiceConfigurationError(f"--transport: {error}") from error


class BrokerLog(logging.Handler):
    """Write what the event package logs in single lines on stderr, once somebody is to see it.

    :ivar faulty: set once something went wrong.
    :ivar command: what the lines start with; None while none is written.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.faulty = threading.Event()
        self.command: str | None = None
        logger = logging.getLogger("gemstone_sync.event")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.faulty.set()
        if self.command is not None:
            line = " ".join(record.getMessage().split())
            click.echo(f"{self.command}: {line}", err=True)


def wait_until_ready(
    why_not_ready: Callable[[], str | None], log: BrokerLog, timeout: float
) -> None:
    """Wait for the first connection of a publisher or a consumer.

    They themselves would try for ever; a command says at once what is wrong.

    :param why_not_ready: its method.
    :param timeout: seconds.
    :raises BrokerUnavailable: when connecting failed, or took longer.
    """
    from ..event.runtime.connection_loop import NOT_YET

    end = time.monotonic() + timeout
    while why_not_ready() is not None:
        if log.faulty.wait(_INTERVAL) or time.monotonic() >= end:
            why = why_not_ready()
            if why is not None and not (why.endswith(NOT_YET) and time.monotonic() < end):
                raise BrokerUnavailable(why)
            log.faulty.clear()  # it was another one's in this process


def stop_in_time(stop: Callable[[float], Any], seconds: float) -> bool:
    """Stop a publisher or a consumer; tell whether it has ended in that time.

    :param stop: its `stop`. A thread that still runs while the interpreter ends crashes it
        (measured: exit code 139 in 3 of 120 runs), so it is called whatever else went wrong. It has
        a thread of its own, since looking up a host cannot be cut off.
    """
    stopping = threading.Thread(target=stop, args=(seconds,), daemon=True)
    stopping.start()
    stopping.join(seconds)
    return not stopping.is_alive()
