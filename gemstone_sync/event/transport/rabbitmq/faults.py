"""From what py-amqp and sockets raise to `LinkLost` and `LinkRefused`, in plain words.

None of the texts can show a password: the place is put together from host, port and virtual host,
and neither py-amqp nor RabbitMQ repeats what one logs in with.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Iterator

from amqp import exceptions, spec

from ...link import LinkLost, LinkRefused

__all__ = [
    "FAULTS",
    "absent_is_empty",
    "consumer_timeout",
    "deleted",
    "fault",
    "largest_message",
    "unwritable",
]

#: What may come out of a connection that breaks, is cut in the middle of a frame, or is none at
#: all. (AttributeError and TypeError, which py-amqp raises once it has closed, are not among them:
#: they may be mistakes in what a link calls.)
FAULTS = (exceptions.AMQPError, OSError, LookupError, struct.error, UnicodeError)

_REFUSED = (
    exceptions.AccessRefused,
    exceptions.NotAllowed,
    exceptions.PreconditionFailed,
    exceptions.AMQPNotImplementedError,
    exceptions.ResourceLocked,
    ssl.SSLCertVerificationError,
)

_OTHER_ARGUMENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']*)' for (?P<kind>queue|exchange) '(?P<name>.*)' in vhost"
    r"[^:]*: (?P<values>.*)"
)
_TOO_LARGE = re.compile(r"message size \d+ is larger than configured max size (\d+)")
_UNWRITABLE = re.compile(
    r"access to (?:topic '(?P<key>.*)' in )?exchange '(?P<exchange>.*)' in vhost"
)
_TOO_LATE = re.compile(r"delivery acknowledgement on channel .* timed out\D*(\d+) ms")


def fault(error: Exception, place: str) -> LinkLost:
    """Make what a link raises for `error`.

    :param place: where the broker is.
    """
    refused = isinstance(error, _REFUSED) and consumer_timeout(error) is None
    kind = LinkRefused if refused else LinkLost
    return kind(f"RabbitMQ at {place}: {_text(error)}")


def largest_message(error: Exception) -> int | None:
    """Return how many bytes a message may have, when the broker refused one for its size."""
    found = _TOO_LARGE.search(str(error))
    return None if found is None else int(found[1])


def unwritable(error: Exception) -> tuple[str, str | None] | None:
    """Return the exchange and the routing key, None for any, to which the user may not publish.

    :returns: None when that is not what the broker closed a channel for.
    """
    if getattr(error, "method_sig", None) != spec.Basic.Publish:
        return None
    found = _UNWRITABLE.search(str(error))
    # So it calls the nameless one.
    return found and (found["exchange"].removeprefix("amq.default"), found["key"])


def consumer_timeout(error: Exception) -> float | None:
    """Return how many seconds a message may be held, when the broker closed a channel for one."""
    found = _TOO_LATE.search(str(error))
    return None if found is None else int(found[1]) / 1000


@contextlib.contextmanager
def absent_is_empty() -> Iterator[None]:
    """Take a queue that is not there for no fault."""
    try:
        yield
    except exceptions.NotFound as error:
        # The same code tells of a queue on a node that is away. (Py-amqp has opened the channel
        # again, which the broker closed.)
        if "no queue" not in str(error.reply_text):
            raise


def deleted(queue: str, _consumer_tag: object) -> None:
    """Lose the link: py-amqp's ``on_cancel``, when the broker ends a consumer with its queue."""
    raise LinkLost(f"the queue {queue!r} was deleted")


def _text(error: Exception) -> str:
    said = str(getattr(error, "strerror", None) or error).strip()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, socket.gaierror):
        return f"there is no such host: {error.strerror}"
    if isinstance(error, TimeoutError):
        return said or "no answer in time"
    if isinstance(error, exceptions.AMQPError):
        return _reply(error)
    if isinstance(error, OSError):
        return f"the connection broke: {said or type(error).__name__}"
    return "what answers there does not speak AMQP 0-9-1, or the connection is closed"


def _reply(error: exceptions.AMQPError) -> str:
    text = str(error.reply_text or error)
    if (seconds := consumer_timeout(error)) is not None:
        return (
            f"an event was held for longer than its consumer_timeout of {seconds:g} s, so it "
            "delivers again what this connection had (what runs goes on, and is not run again "
            "here): set it to more than handlers take"
        )
    found = _OTHER_ARGUMENT.search(text)
    if found is not None:
        kind, name = found["kind"], found["name"]
        return (
            f"the {kind} {name!r} exists with another {found['argument']!r} than this program's: "
            f"{found['values']}. Use the options that it was made with, or, when it is empty, "
            f"delete it, and it is made anew"
        )
    if isinstance(error, exceptions.AccessRefused):
        return f"the user name, the password or the rights do not suffice: {text}"
    return text
