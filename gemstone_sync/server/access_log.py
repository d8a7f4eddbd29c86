"""The access log, in combined format: one line a request, also for those that are refused."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

__all__ = ["log_refusal", "log_request"]

logger = logging.getLogger("gemstone_sync.access")

#: Written as escapes, as Apache does: a client must not forge lines, nor control a terminal.
_UNSAFE = re.compile(r'["\\]|[^ -~]')


def log_request(environ: dict[str, Any], status: str, sent: int) -> None:
    """:param sent: bytes of the body."""
    line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    referer = environ.get("HTTP_REFERER", "-")
    _log(environ["REMOTE_ADDR"], line, status, sent, referer, environ.get("HTTP_USER_AGENT", "-"))


def log_refusal(address: Any, head: bytes, status: str, sent: int) -> None:
    """:param head: what came of the request's head."""
    remote = address[0] if isinstance(address, tuple) else ""
    line = head.lstrip(b"\r\n").split(b"\r\n", 1)[0][:256].decode("latin-1")
    _log(remote, line or "-", status, sent, "-", "-")


def _log(remote: str, line: str, status: str, sent: int, referer: str, agent: str) -> None:
    logger.info(
        '%s - - [%s] "%s" %s %d "%s" "%s"',
        remote or "-",
        time.strftime("%d/%b/%Y:%H:%M:%S %z"),
        _UNSAFE.sub(_escape, line),
        status[:3] or "500",
        sent,
        _UNSAFE.sub(_escape, referer),
        _UNSAFE.sub(_escape, agent),
    )


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return f"\\{character}" if character in '"\\' else f"\\x{ord(character):02x}"
