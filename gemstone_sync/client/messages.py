"""Holds one HTTP request and its reply: the seam between a client and the network.

Everything that sends calls is an `Adapter`: connections of our own (`adapter`), a session or an
adapter of requests (`bridge`), a service of this process or canned answers
(`gemstone_sync.testing`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..number_checks import is_number

__all__ = ["Adapter", "HttpReply", "HttpRequest", "Limits", "check_positive"]


def check_positive(**values: Any) -> None:
    """Check what bounds a wait or a number.

    :raises ValueError: when one of them is no number above 0, or is endless.
    """
    for name, value in values.items():
        if not is_number(value) or not 0 < value < math.inf:
            raise ValueError(f"{name} is a number above 0, not {value!r}: no wait is endless")


@dataclass(frozen=True)
class Limits:
    """Bounds the time of a call, in seconds, and the size of its answer, in bytes.

    :param connect: to look up the host and to connect.
    :param read: for each wait for a part of the answer.
    :param total: for everything, repeated attempts included.
    :raises ValueError: when one of them is no limit.
    """

    connect: float = 1
    read: float = 10
    total: float = 15
    max_response_size: int = 20_000_000

    def __post_init__(self) -> None:
        check_positive(timeout=self.connect, total_timeout=self.total)
        check_positive(timeout=self.read, max_response_size=self.max_response_size)


class HttpRequest(NamedTuple):
    """Holds a POST to a service, and how long it may take.

    :param url: with the host in ASCII and the path quoted.
    :param shown: the URL without what is secret in it, for messages.
    :param headers: all but ``Host`` and ``Content-Length``, which the adapter adds.
    :param deadline: for everything, by ``time.monotonic()``.
    :param verify: whether certificates are checked, or the path of the authorities' certificates.
    :param cert: the path of the client's certificate with its key, or both paths.
    """

    url: str
    shown: str
    headers: dict[str, str]
    body: bytes = b""
    limits: Limits = Limits()
    deadline: float = math.inf
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None

    def seconds_to(self, limit: float) -> float:
        """Return a limit, or what is left until the deadline when that is less; never nothing."""
        return max(0.001, min(limit, self.deadline - time.monotonic()))


class HttpReply(NamedTuple):
    """Holds what came back over HTTP.

    :param url: the request's, as it is shown.
    :param headers: a mapping by name; adapters give names in small letters, or one that knows no
        case, as that of Flask's test client (`gemstone_sync.testing`) is.
    :param body: decompressed.
    :param leaves: the server has ended a connection that it had kept: it may be about to stop.
    """

    url: str
    status: int
    headers: Any
    body: bytes
    leaves: bool = False


class Adapter:
    """Carries requests to services. A subclass has `send`, and may have something to close."""

    def send(self, request: HttpRequest) -> HttpReply:
        """Send a request, once, and return its reply, whatever its status.

        :raises TransportError: when there is none.
        """
        raise NotImplementedError

    def forget(self, url: str) -> None:
        """Keep nothing for a URL that nobody calls any more."""

    def close(self) -> None:
        """Close what is idle. The adapter can be used again."""
