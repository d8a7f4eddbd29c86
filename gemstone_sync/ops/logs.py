"""Logging for a service: what records tell of the call that they are made in, and how they look.

`CallFilter`, `CallRecord` and `add_call_fields` give records of any set-up the running call's ids;
`JsonFormatter` writes them as JSON. A service that is its own program uses these by itself
(`show_logs`); one whose program has set up logging leaves that alone.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

from gevent.hub import Hub

from ..broker_urls import without_passwords
from ..concurrency import current_call, current_trace
from ..config.redaction import redacted

__all__ = [
    "CallFilter",
    "CallRecord",
    "JsonFormatter",
    "add_call_fields",
    "call_fields",
    "error_fields",
    "restore_loggers",
    "show_logs",
]

_NAME = __name__.partition(".")[0]

#: What a record tells of the call or event that it is made in.
_FIELDS = ("service", "request_id", "method", "event", "trace_id", "span_id")

#: W3C Trace Context, section 3.2.2; what does not look like it is some caller's text.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

#: The attributes that every record has; all others are the user's ``extra``.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", *_FIELDS}

_shown: logging.Handler | None = None


# What a record tells


def call_fields() -> dict[str, str]:
    """Return what is known of the running call or event; empty outside of one.

    The keys are ``service``, ``request_id``, ``method`` or ``event`` (or ``periodic_task``),
    ``trace_id``, and ``span_id`` where OpenTelemetry has a current span.

    >>> from gemstone_sync.concurrency import Call, Work
    >>> token = current_call.set(Call(request_id="r1", work=Work("method", "sell", "shop")))
    >>> call_fields()
    {'service': 'shop', 'request_id': 'r1', 'method': 'sell'}
    >>> current_call.reset(token)
    """
    call = current_call.get()
    fields: dict[str, str] = {}
    if call is not None:
        work = call.work
        if work is not None and work.service:
            fields["service"] = work.service
        fields["request_id"] = call.request_id
        if work is not None:
            fields[work.kind] = work.name
    parent = current_trace().get("traceparent", "")
    if (found := _TRACEPARENT.fullmatch(parent)) is not None:
        fields["trace_id"] = found[1]
        if call is None or parent != call.traceparent:  # else it is the caller's span
            fields["span_id"] = found[2]
    return fields


class CallFilter(logging.Filter):
    """Gives records the attributes ``service``, ``request_id``, ``method``, ``event``,
    ``trace_id`` and ``span_id``, for any formatter.

    Add it to a handler, where it sees the records of all loggers; to a `QueueHandler`, not to what
    takes them from its queue, which is in no call any more. An attribute that a record has already,
    by ``extra``, stays.

    :param missing: the value of those that are not known.

    ::

        logging.config.dictConfig({
            "version": 1,
            "filters": {"call": {"()": "gemstone_sync.ops.CallFilter"}},
            "formatters": {"own": {"format": "%(levelname)s %(message)s [%(request_id)s]"}},
            "handlers": {
                "own": {
                    "class": "logging.StreamHandler", "formatter": "own", "filters": ["call"],
                },
            },
            "root": {"handlers": ["own"]},
        })
    """

    def __init__(self, missing: str | None = "-") -> None:
        super().__init__()
        self._missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete a record; let each pass."""
        _complete(record.__dict__, call_fields(), self._missing)
        return True


class CallRecord(logging.LogRecord):
    """A record with the same attributes; for ``logging.setLogRecordFactory(CallRecord)``.

    They are of the moment when it is made, and set when its text is, so that an ``extra`` may have
    the same names.
    """

    __slots__ = ("_fields",)  # not among the attributes that formatters show

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fields = call_fields()

    def getMessage(self) -> str:  # noqa: N802
        """Return the text; every formatter asks for it first."""
        _complete(self.__dict__, self._fields, "-")
        return super().getMessage()


def _complete(record: dict[str, Any], fields: dict[str, str], missing: str | None) -> None:
    for name in _FIELDS:
        record.setdefault(name, fields.get(name, missing))


def add_call_fields(
    logger: Any, name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Serve as a processor of structlog: what `call_fields` returns is added.

    The name of an event that is handled is ``event_name``: ``event`` is structlog's own text.

    >>> add_call_fields(None, "info", {"event": "sold"})
    {'event': 'sold'}
    """
    for key, value in call_fields().items():
        event_dict.setdefault("event_name" if key == "event" else key, value)
    return event_dict


# How it looks


class JsonFormatter(logging.Formatter):
    """Writes each record as one line of JSON.

    Its members are ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``; those of
    `call_fields`; ``error`` with ``class``, ``text`` and ``stack``; and what users put into
    ``extra``. Passwords in URLs are masked, and whatever has a secret's name in ``extra``. All but
    printable ASCII is escaped.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_passwords(record.getMessage()),
        }
        own = record.__dict__
        fields = call_fields()
        for name in (*_FIELDS, *fields):
            if (value := own.get(name, fields.get(name))) not in (None, "-"):
                line[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = error_fields(record.exc_info[1])
        if record.stack_info:
            line["stack"] = without_passwords(record.stack_info)
        for key, value in own.items():
            if key not in _STANDARD:
                line.setdefault(key, _harmless(key, value))
        return json.dumps(line).replace("\x7f", "\\u007f")


def error_fields(error: BaseException, longest: int | None = None) -> dict[str, str]:
    """Tell the class, text and stack of an exception, whatever its class does, without secrets.

    :param longest: characters of the text's beginning and of the stack's end; None for no bound.
    """
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    try:
        stack = "".join(traceback.format_exception(error))
    except Exception:  # of an exception whose own attributes fail
        stack = ""
    if longest is None:
        shown = {"text": without_passwords(text), "stack": without_passwords(stack)}
    else:
        # Masking a megabyte takes a second. Twice as much as is shown: where it is cut, half of a
        # URL might stand, whose password nobody would find.
        text, stack = text[: 2 * longest], stack[-2 * longest :]
        shown = {
            "text": without_passwords(text)[:longest],
            "stack": without_passwords(stack)[-longest:],
        }
    return {"class": type(error).__name__, **shown}


def _harmless(key: str, value: Any) -> Any:
    """Return what JSON can hold of a value of the user's, without secrets."""
    try:
        value = redacted({key: value})[key]
        json.dumps(value, allow_nan=False)
    except RecursionError:  # a circle: its texts cannot be looked through
        return f"({type(value).__name__})"
    except (TypeError, ValueError):  # keys, NaN, objects
        return _plain(value)
    return value


def _plain(value: Any) -> str:
    try:
        return without_passwords(repr(value))
    except Exception:
        return f"({type(value).__name__})"


class _Formatter(logging.Formatter):
    """Begins one line for each record; what else a record has, as a traceback's lines, is indented.

    What a caller sent may stand in the text of any exception, and in what Flask says of a path: it
    must neither look like a record nor control a terminal.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        text = super().formatMessage(record)
        fields = call_fields()
        if "request_id" not in fields or "request_id=" in text:
            return text
        name = fields.get("method") or fields.get("event") or fields.get("periodic_task")
        about = f"{name} request_id" if name else "request_id"
        return f"{text} [{about}={fields['request_id']}]"

    def format(self, record: logging.LogRecord) -> str:
        text = without_passwords(super().format(record))
        return text.translate(_ESCAPES).replace("\n", "\n  ")


class _Escapes(dict[int, str]):
    """Writes as escapes, by code point, what has no look of its own."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = character.isprintable() or character in "\n\t"
        return character if shown else ascii(character)[1:-1]


_ESCAPES = _Escapes()


# Set up


def restore_loggers() -> None:
    """Enable our loggers where logging.config has disabled all that there were by then.

    ``dictConfig`` and ``fileConfig`` do so by default (``disable_existing_loggers``). What somebody
    has disabled by itself stays so: nobody disables the one above them all, which hushes no other.
    """
    if logging.getLogger(_NAME).disabled:
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if name.partition(".")[0] == _NAME and isinstance(logger, logging.Logger):
                logger.disabled = False


def show_logs(log_format: str = "console", log_level: str | None = None) -> None:
    """Send logs to stderr, unless the program has set up logging itself; again to change it.

    :param log_format: ``"console"`` or ``"json"``.
    :param log_level: from which level up; None for info, or for what the program has set up.
    """
    global _shown
    own = logging.getLogger(_NAME)
    if not own.hasHandlers():
        _shown = logging.StreamHandler(sys.stderr)
        logging.basicConfig(level=logging.INFO, handlers=[_shown])
    if _shown is None or _shown not in logging.root.handlers:
        if log_level is not None:
            own.setLevel(log_level.upper())
        if log_format == "json":
            own.warning(
                'log_format is "json", and the program has set up logging itself: give its '
                "handlers gemstone_sync.ops.JsonFormatter"
            )
        return
    logging.root.setLevel((log_level or "info").upper())
    if log_format != "json":
        _shown.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        return
    _shown.setFormatter(JsonFormatter())
    # These write to stderr themselves, which is no JSON.
    logging.captureWarnings(True)
    Hub.print_exception = _log_exception


def _log_exception(hub: Any, context: Any, kind: Any, error: Any, trace: Any) -> None:
    logging.getLogger(f"{_NAME}.greenlet").error(
        "%r failed", context, exc_info=(kind, error, trace) if error is not None else None
    )
