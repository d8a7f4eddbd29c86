"""The protocol over standard streams: one message a line, for agents that start their servers.

Source: 2026-07-28, "stdio". Nothing but messages goes to stdout: what the program prints there goes
to stderr, and it reads nothing from stdin.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.lock import Semaphore
from gevent.pool import Group

from ..concurrency import DeadlineReached, spawn
from ..dispatch import CallContext
from ..errors import InvalidRequest, ParseError
from ..protocol import decode_json
from .face import Face
from .results import written
from .revisions import ASSUMED

__all__ = ["serve", "take_streams"]

_PIECE = 64 * 1024
#: Seconds for calls that run when the client ends.
_GRACE = 5.0
#: From clients that wait no longer, and from terminals.
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def take_streams() -> tuple[int, int]:
    """Take stdin and stdout for messages; return both as file descriptors of their own.

    What else is printed goes to stderr, from libraries in C and child processes too.
    """
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # as a log: not all of it at the end
    return source, sink


def serve(
    face: Face,
    source: int,
    sink: int,
    *,
    longest: int,
    make_context: Callable[[], CallContext],
) -> None:
    """Answer messages until the client ends; calls run at once, each answered when it is done.

    Ends, too, when nobody reads what is answered, and with SIGTERM, SIGHUP and SIGINT: calls that
    run are given up then.

    :param source, sink: file descriptors.
    :param longest: bytes of a message.
    :param make_context: makes the surroundings of each.
    """
    _Server(face, sink, make_context).serve(source, longest)


class _Ended(BaseException):
    """Ends the reading of messages."""


class _Cancelled(DeadlineReached, gevent.GreenletExit):  # type: ignore[misc]
    """Ends a call that nobody waits for any more, as its deadline would."""


class _Server:
    def __init__(self, face: Face, sink: int, make_context: Callable[[], CallContext]) -> None:
        self._face = face
        self._sink = sink
        self._make_context = make_context
        self._writing = Semaphore()
        self._assumed = ASSUMED
        self._running: dict[Any, gevent.Greenlet[..., Any]] = {}
        self._all = Group()
        self._reader: Any = None

    def serve(self, source: int, longest: int) -> None:
        self._reader = gevent.getcurrent()
        signals = [gevent.signal_handler(each, self._end) for each in _SIGNALS]
        try:
            for line in _lines(source, longest):
                if line is None:
                    error = {"code": InvalidRequest.code, "message": "The message is too long"}
                    self._write(written(None, "error", error))
                else:
                    self._take(line)
            self._all.join(timeout=_GRACE)
        except _Ended:
            pass
        finally:
            self._reader = None
            for each in signals:  # the next one has its usual meaning
                each.cancel()
            self._all.kill(_Cancelled, timeout=_GRACE)

    def _end(self) -> None:
        """End the reading of messages, from another greenlet."""
        reader, self._reader = self._reader, None
        if reader is not None:
            gevent.kill(reader, _Ended())

    def _take(self, line: bytes) -> None:
        message = _small(line)
        method = message.get("method")
        if method == "initialize":  # the next message counts on what was agreed
            self._answer(line)
        elif method == "notifications/cancelled":
            self._cancel(message.get("params"))
        elif method is not None or not {"result", "error"} & {*message}:  # no answer of a client's
            self._start(line, message.get("id"))

    def _start(self, line: bytes, key: Any) -> None:
        greenlet = spawn(self._answer, line, key)
        self._all.add(greenlet)
        if isinstance(key, (str, int)):
            self._running[key] = greenlet

    def _answer(self, line: bytes, key: Any = None) -> None:
        greenlet = gevent.getcurrent()
        try:
            answer = self._face.answer(line, self._make_context(), assumed=self._assumed)
        finally:  # not later: half an answer would spoil the next one
            if isinstance(key, (str, int)) and self._running.get(key) is greenlet:
                del self._running[key]
        if answer.revision is not None:
            self._assumed = answer.revision
        if answer.body is not None and not getattr(greenlet, "cancelled", False):
            self._write(answer.body)

    def _cancel(self, params: Any) -> None:
        """End a call that the client does not wait for any more: nothing is said of it."""
        key = params.get("requestId") if isinstance(params, dict) else None
        greenlet = self._running.pop(key, None) if isinstance(key, (str, int)) else None
        if greenlet is not None:
            greenlet.cancelled = True
            greenlet.kill(_Cancelled, block=False)

    def _write(self, body: bytes) -> None:
        # JSON has no line break of its own but in texts, where it is escaped.
        left = memoryview(body + b"\n")
        with self._writing:
            while left:
                done = _in_thread(_written, self._sink, left)
                if done is None:
                    self._end()
                    return
                left = left[done:]


def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return gevent.get_hub().threadpool.apply(function, args)


def _written(sink: int, data: memoryview) -> int | None:
    """Write to a file descriptor; None when nobody reads: a thread prints what it raises."""
    try:
        return os.write(sink, data)
    except OSError:
        return None


def _read(source: int) -> bytes:
    """Read from a file descriptor; nothing when it is broken, as a socket is whose peer is gone."""
    try:
        return os.read(source, _PIECE)
    except OSError:
        return b""


def _small(line: bytes) -> dict[str, Any]:
    """Read a message for what is said of other messages; empty for what is none, or too long."""
    if len(line) > _PIECE:  # not decoded twice; it cannot be cancelled
        return {}
    try:
        found = decode_json(line)
    except ParseError:
        return {}
    return found if isinstance(found, dict) else {}


def _lines(source: int, longest: int) -> Iterator[bytes | None]:
    """Yield lines without their ends, empty ones left out; None for one that is too long."""
    pieces: list[bytes] = []
    size, too_long = 0, False
    while piece := _in_thread(_read, source):
        *ends, rest = piece.split(b"\n")
        for end in ends:
            line = b"".join([*pieces, end]).strip()
            if too_long or len(line) > longest:
                yield None
            elif line:
                yield line
            pieces, size, too_long = [], 0, False
        size += len(rest)
        too_long = too_long or size > longest
        pieces = [] if too_long else [*pieces, rest]
    line = b"".join(pieces).strip()
    if line and not too_long:
        yield line
