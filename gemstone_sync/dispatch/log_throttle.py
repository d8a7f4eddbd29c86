"""Log lines that callers can cause: one a second of each kind, and how many more there were.

What is refused or fails is always told, and never floods the log: a broken dependency fails every
call, and a caller may send a million bad ones.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Hashable
from functools import partial

import gevent

__all__ = ["LogThrottle", "log_suppressed"]

#: Seconds between two lines of a kind, and between two tracebacks.
_LINE, _TRACEBACK = 1.0, 60.0
#: Ids that one line names of those that had none of their own.
_IDS = 50
#: Beyond so many kinds, those that have nothing to tell are forgotten.
_KINDS = 512


class _Kind:
    """A kind of lines: how many were left out, and until when."""

    __slots__ = ("context", "count", "ids", "last", "quiet_until", "untraced_until")

    def __init__(self) -> None:
        self.quiet_until = self.untraced_until = 0.0
        self.count = 0
        self.last = ""
        #: The last one's, of which `gemstone_sync.ops.CallFilter` reads its call.
        self.context = contextvars.Context()
        self.ids: dict[str, None] = {}


#: Of all throttles: what is to be told within a second, by its kind.
_waiting: dict[_Kind, Callable[[], None]] = {}


def log_suppressed() -> None:
    """Log now what would be told within a second: the process may end before that."""
    for tell in [*_waiting.values()]:
        tell()


class LogThrottle:
    """Logs at most one line a second of each kind.

    :param logger: where the lines go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._kinds: dict[tuple[int, Hashable], _Kind] = {}

    def log(
        self,
        level: int,
        kind: Hashable,
        message: str,
        id: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Log a line, now or together with more of its kind within a second.

        :param kind: of which there are few; nothing that a caller chooses.
        :param id: by which somebody will look for this line.
        :param error: logged with its traceback once a minute; its class belongs to the kind.
        """
        if not self._logger.isEnabledFor(level):
            return
        key = (level, kind if error is None else (kind, type(error)))
        seen = self._kinds.get(key)
        if seen is None:
            seen = self._remember(key)
        now = time.monotonic()
        if now >= seen.quiet_until and seen.count:
            self._tell(key, seen)  # its greenlet had no turn yet
        if now < seen.quiet_until:
            if seen.count == 0:
                _waiting[seen] = tell = partial(self._tell, key, seen)
                gevent.spawn_later(seen.quiet_until - now, tell)
            seen.count += 1
            seen.last = message if error is None else f"{message}: {_text_of(error)}"
            seen.context = contextvars.copy_context()
            if len(seen.ids) < _IDS and id:
                seen.ids[id] = None
            return
        seen.quiet_until = now + _LINE
        traced = error is not None and now >= seen.untraced_until
        if traced:
            seen.untraced_until = now + _TRACEBACK
        elif error is not None:
            message = f"{message}: {_text_of(error)}"
        self._write(level, message, error if traced else None)

    def _tell(self, key: tuple[int, Hashable], seen: _Kind) -> None:
        """Log the last of those that were not, with the number and the ids of the others."""
        if _waiting.pop(seen, None) is None:
            return
        more, ids, message, context = seen.count - 1, seen.ids, seen.last, seen.context
        seen.count, seen.ids, seen.context = 0, {}, contextvars.Context()
        seen.quiet_until = time.monotonic() + _LINE
        if more:
            message += f" and {more} more like it"
            message += f" [{' '.join(ids)}]" if ids else ""
        context.run(self._write, key[0], message)

    def _write(self, level: int, message: str, error: BaseException | None = None) -> None:
        if not message.isprintable():  # what came from a caller must not forge a line
            message = repr(message)[1:-1]
        self._logger.log(level, "%s", message, exc_info=error)

    def _remember(self, key: tuple[int, Hashable]) -> _Kind:
        if len(self._kinds) >= _KINDS:
            self._kinds = {k: kind for k, kind in self._kinds.items() if kind.count}
        self._kinds[key] = kind = _Kind()
        return kind


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    return f"{type(error).__name__}: {text[:200]!r}"
