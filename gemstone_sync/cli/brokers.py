"""What ``gemstone emit`` and ``gemstone listen`` share: which broker, and waiting for it.

The work with the broker is done by a thread of the event package's own; the process is not patched.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ..broker_urls import RABBITMQ_SCHEMES, REDIS_SCHEMES, scheme_of
from ..errors import BrokerUnavailable, ServiceConfigurationError
from .parameters import Duration

if TYPE_CHECKING:
    from ..event.transport import BrokerEventTransport

__all__ = [
    "BrokerLog",
    "broker_options",
    "stop_in_time",
    "transport_of",
    "wait_until_ready",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_VARIABLE = "GEMSTONE_EVENT_TRANSPORTS"
_FORMS = "amqp://, amqps://, redis://, rediss://, unix://, sqlite:///FILE, or the path of a file"
_SCHEMES = (*RABBITMQ_SCHEMES, *REDIS_SCHEMES, "sqlite")

#: Seconds between two looks whether a connection is there.
_INTERVAL = 0.005


def broker_options(function: _Function) -> _Function:
    """``--transport``, ``--application`` and ``--timeout``."""
    for option in (
        click.option(
            "--timeout",
            type=Duration(),
            default=10.0,
            show_default="10s",
            metavar="DURATION",
            help="How long the broker may take.",
        ),
        click.option(
            "--application",
            metavar="NAME",
            help="The application, where several share the broker; as the URL has it, or gemstone.",
        ),
        click.option(
            "--transport",
            metavar="URL",
            envvar=_VARIABLE,
            callback=_first,
            help=f"The broker: {_FORMS}.  [env: {_VARIABLE}, the first of it]",
        ),
    ):
        function = option(function)
    return function


def _first(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    source = ctx.get_parameter_source(param.name or "")
    if value and source is click.core.ParameterSource.ENVIRONMENT:
        # A service has a list of them there.
        from ..config.kinds import read_list

        value = str((read_list(value) or [""])[0])
    if not value:
        raise click.UsageError(
            f"which broker? Give --transport URL, or set {_VARIABLE}: {_FORMS}", ctx
        )
    return value


def transport_of(
    url: str, application: str | None, shards: int | None = None
) -> BrokerEventTransport:
    """The transport that a URL names; nothing is connected yet.

    :param application: None for that of the URL.
    :param shards: over how many queues RabbitMQ spreads events with a key; None for its default.
    :raises click.UsageError: for one that two processes cannot meet at, or an unknown one.
    :raises ServiceConfigurationError: when the URL or the name cannot be used.
    """
    scheme = scheme_of(url)
    if scheme == "memory" or url.endswith(":memory:"):
        where = "memory://" if scheme == "memory" else ":memory:"
        raise click.UsageError(
            f"{where} lies within one process, which no other can reach; there are {_FORMS}"
        )
    if scheme and scheme not in _SCHEMES:
        # The rest of the URL is not shown: it may hold a password.
        raise click.UsageError(f"no events over {scheme!r}://; there are {_FORMS}")
    if shards is not None and scheme not in RABBITMQ_SCHEMES:
        raise click.UsageError("--shards is for RabbitMQ: elsewhere all events are in one order")
    from ..event.transport import transport_from_url

    given = {"application": application, "shards": shards}
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return transport_from_url(url, **options)
    except ServiceConfigurationError as error:
        raise ServiceConfigurationError(f"--transport: {error}") from error


class BrokerLog(logging.Handler):
    """What the event package logs: in single lines on stderr, once somebody is to see it.

    :param command: what the lines start with.
    :ivar faulty: set once something went wrong.
    """

    def __init__(self, command: str) -> None:
        super().__init__(logging.INFO)
        self.faulty = threading.Event()
        self._command = command
        self._telling = False
        logger = logging.getLogger("gemstone_sync")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self)

    def tell(self, on: bool = True) -> None:
        """Write from now on, or do so no more."""
        self._telling = on

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.faulty.set()
        if self._telling:
            line = " ".join(record.getMessage().split())
            click.echo(f"{self._command}: {line}", err=True)


class _Part(Protocol):
    def why_not_ready(self) -> str | None: ...


def wait_until_ready(part: _Part, log: BrokerLog, timeout: float) -> None:
    """Wait for the first connection of a publisher or a consumer.

    They themselves would try for ever; a command says at once what is wrong.

    :param timeout: seconds.
    :raises BrokerUnavailable: when connecting failed, or took longer.
    """
    from ..event.runtime.connection_loop import NOT_YET

    end = time.monotonic() + timeout
    while part.why_not_ready() is not None:
        if log.faulty.wait(_INTERVAL) or time.monotonic() >= end:
            why = part.why_not_ready()
            if why is None:
                return
            if why.endswith(NOT_YET) and time.monotonic() < end:
                log.faulty.clear()  # it was another one's in this process
                continue
            raise BrokerUnavailable(why)


def stop_in_time(stop: Callable[[float], Any], seconds: float) -> bool:
    """Stop a publisher or a consumer; whether it has ended in that time.

    :param stop: its `stop`. A thread that still runs while the interpreter ends crashes it
        (measured: exit code 139 in 3 of 120 runs), so it is called whatever else went wrong. It has
        a thread of its own, since looking up a host cannot be cut off.
    """
    stopping = threading.Thread(target=stop, args=(seconds,), daemon=True)
    stopping.start()
    stopping.join(seconds)
    return not stopping.is_alive()
