"""Write the access log, in combined format: a line for each request, also for refused ones."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from ..concurrency import travelling_id

__all__ = ["log_refusal", "log_request"]

logger = logging.getLogger("gemstone_sync.access")

#: Written as escapes, as Apache does: a client must not forge lines, nor control a terminal.
_UNSAFE = re.compile(r'["\\]|[^ -~]')


def log_request(environ: dict[str, Any], status: str, sent: int) -> None:
    """Log a request that was answered.

    :param sent: bytes of the body.
    """
    line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    referer = environ.get("HTTP_REFERER", "-")
    agent = environ.get("HTTP_USER_AGENT", "-")
    request_id = travelling_id(environ.get("HTTP_X_REQUEST_ID"))
    _log(environ["REMOTE_ADDR"], line, status, sent, referer, agent, request_id)


def log_refusal(address: Any, head: bytes, status: str, sent: int) -> None:
    """Log a request that was refused.

    :param head: what came of its head.
    """
    remote = address[0] if isinstance(address, tuple) else ""
    line = head.lstrip(b"\r\n").split(b"\r\n", 1)[0][:256].decode("latin-1")
    _log(remote, line or "-", status, sent, "-", "-")


def _log(
    remote: str,
    line: str,
    status: str,
    sent: int,
    referer: str,
    agent: str,
    request_id: str | None = None,
) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    known = {  # for logs in JSON
        "remote": remote or None,
        "request": line,
        "status": int(status[:3] or 500),
        "bytes": sent,
        "referer": None if referer == "-" else referer,
        "agent": None if agent == "-" else agent,
        "request_id": request_id,
    }
    logger.info(
        '%s - - [%s] "%s" %s %d "%s" "%s"',
        remote or "-",
        time.strftime("%d/%b/%Y:%H:%M:%S %z"),
        _UNSAFE.sub(_escape, line),
        status[:3] or "500",
        sent,
        _UNSAFE.sub(_escape, referer),
        _UNSAFE.sub(_escape, agent),
        extra={key: value for key, value in known.items() if value is not None},
    )


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return f"\\{character}" if character in '"\\' else f"\\x{ord(character):02x}"
