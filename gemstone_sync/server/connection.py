"""Serve one connection: read a head, run the application, answer, again.

Hot path: `HttpConnection._serve_one` runs for each request. Heads are remembered by their bytes,
because a client repeats the same one: the checks of `head` then run once per client, not per call.
"""

from __future__ import annotations

import io
import logging
import re
import time
import uuid
from collections.abc import Hashable
from contextvars import copy_context
from typing import Any

import gevent

from ..concurrency import USER_FAULTS, travelling_id
from .access_log import log_refusal, log_request
from .client_socket import AT_ONCE, NEVER, ClientSocket
from .endpoint import TOLD
from .head import (
    MAX_HEAD,
    Head,
    HeadParser,
    HttpFault,
    check_beginning,
    finish_head,
    parse_head,
)
from .response import Response, render_refusal
from .state import FIRST_TO_GO, INDISPENSABLE, ServerState
from .streams import BodyStream, ChunkedStream, ClientGone, LengthStream
from .upgrade import UpgradedSocket, UpgradeResponse, offered_websocket

__all__ = ["HttpConnection"]

logger = logging.getLogger("gemstone_sync.server")

#: Seconds. A client that is idle for less is about to send its next call, or its first.
BETWEEN_CALLS = 0.05

#: Requests that one connection may have answered in a row when it sends many at once. Beside 5
#: floods others' calls took 16 ms (median) at 16, 0.6 ms at 4, and the flood itself is as quick.
PIPELINED_AT_ONCE = 4

_REQUEST_ID = re.compile(rb"(?i)\r\nx-request-id:[ \t]*([ -~]*)\r\n")
_EMPTY_LINES = re.compile(rb"(\r\n)*")
#: In bytes. One or two are an old client's; a flood of them is work for nothing.
MAX_EMPTY_LINES = 8


class HttpConnection(ClientSocket):
    """Speak HTTP/1.1 over an accepted socket."""

    __slots__ = (
        "_buffer",
        "_environ",
        "_idle_since",
        "_last_environ",
        "_last_head",
        "_raw",
    )

    def __init__(self, sock: Any, address: Any, state: ServerState) -> None:
        super().__init__(sock, address, state)
        #: What came after the last request: the beginning of the next.
        self._buffer = b""
        #: What came of a head that is not known to be good.
        self._raw = b""
        self._idle_since = time.monotonic()
        self._environ: dict[str, Any] = {}
        #: The environ of the last request before its body: most requests have the head of the last.
        self._last_environ: dict[str, Any] = {}
        self._last_head: Head | None = None

    def serve(self) -> None:
        """Serve requests until the connection ends, or one has left something in this greenlet.

        The next is served in a new one then: it must not find the thread-locals and context
        variables of another call, and they must not live on while it is waited for.
        """
        context = len(copy_context())
        # See `has_thread_locals`: looked at once, since this is done after each request.
        attributes = vars(gevent.getcurrent())
        known = len(attributes)
        goes_on = False
        try:
            if not self._environ:
                self._open()
                self._environ = self.state.environ_for(self.address)
            while self._serve_one():
                if len(attributes) != known or len(copy_context()) != context:
                    goes_on = True
                    return
        except HttpFault as fault:
            is_head = self._raw.lstrip(b"\r\n").startswith(b"HEAD ")
            sent = self._refuse(fault, _id_in(self._raw), is_head)
            if self.state.settings.access_log:
                log_refusal(self.address, self._raw, str(fault.status), sent)
        except OSError as error:
            # The client went away, or never spoke TLS.
            logger.debug("connection from %s: %s", self.address, error)
        except Exception:
            logger.exception("connection from %s failed", self.address)
        finally:
            if goes_on:
                gevent.spawn(self.serve)
            else:
                self.state.forget(self)
                self._close()

    def rank(self, now: float) -> int:
        """Tell how well it can be done without; see `state.Connection`."""
        if self.leaving:
            return INDISPENSABLE  # told already
        if self.idle:
            if now - self._idle_since < BETWEEN_CALLS:
                return 3
            return FIRST_TO_GO if self._last_head is None else 2
        if not self.waits_for_client:
            return INDISPENSABLE  # its call runs, or its answer is being sent
        begun = self.deadline - self.state.settings.header_timeout
        # A head that takes seconds to arrive is an attacker's, or on a link that is of no use.
        return 1 if self._last_head is None and now - begun > 1.0 else 3

    # One request

    def _serve_one(self) -> bool:
        """Serve one request; False when the connection ends."""
        state = self.state
        buffer = self._buffer
        if not buffer:
            self.idle = True
            if len(state.connections) > state.crowd:
                self._idle_since = time.monotonic()
                # Behind the others: the connection that is idle for longest goes first.
                state.connections[self] = state.connections.pop(self, None)
            self.deadline = state.now + state.settings.keep_alive_timeout
            buffer = self._receive()
            if not buffer:
                return False
            self.idle = False
        else:
            self.spend(AT_ONCE // PIPELINED_AT_ONCE)  # however much this one has sent
        end = buffer.find(b"\r\n\r\n") + 4
        head = state.known_heads.get(buffer[:end]) if end > 3 else None
        if head is None:
            head, rest = self._read_head(buffer)
            if head is None:
                return False
        else:
            rest = buffer[end:]
        self.deadline = NEVER
        if self.leaving:
            self._check_is_whole(buffer, head, rest)
        state.requests += 1
        if head is not self._last_head:
            self._last_head = head
            self._last_environ = {**self._environ, **head.environ}
        environ = self._last_environ.copy()
        if head.forwarded:
            state.proxies.apply(environ, head.forwarded)
        stream = self._body(head, rest, environ)
        if head.upgrade:
            return self._serve_upgrade(head, environ)
        response = Response(self, head, stream)
        self._run(environ, response)
        if state.settings.access_log:
            log_request(environ, response.status, response.sent)
        if stream is not None:
            self._discard_body(stream, response, environ)
        return self._goes_on(response)

    def _serve_upgrade(self, head: Head, environ: dict[str, Any]) -> bool:
        """Serve a request that asks for an upgrade: the application has the socket if it wants it.

        False when the connection ends.
        """
        state = self.state
        offered = UpgradedSocket(self, head, self._buffer)
        environ["gunicorn.socket"] = offered
        response = UpgradeResponse(self, head, offered)
        with offered_websocket(environ, offered, state.application):
            self._run(environ, response)
        if state.settings.access_log:
            log_request(environ, "101" if offered.taken else response.status, response.sent)
        offered.finish()
        if offered.taken:
            state.take_back(self)
            self.wait_for_end()
            return False
        return self._goes_on(response)

    def _goes_on(self, response: Response) -> bool:
        """Tell whether another request may follow."""
        if not self._buffer and (self._ending or self.state.ending):
            return False  # also after an answer whose head had gone out before
        return response.keep_alive and not self._gone

    def _check_is_whole(self, buffer: bytes, head: Head, rest: bytes) -> None:
        """Refuse a request that is not all here: its place is taken.

        :raises HttpFault: 408.
        """
        if head.chunked or len(rest) < head.content_length:
            self._raw = buffer
            raise HttpFault(408, "The body did not come in time")

    def _body(self, head: Head, rest: bytes, environ: dict[str, Any]) -> BodyStream | None:
        """Set ``wsgi.input``; return the stream if not all of the body is here yet."""
        length = head.content_length
        if not head.chunked and len(rest) >= length:
            if len(rest) == length:
                environ["wsgi.input"] = io.BytesIO(rest)
                self._buffer = b""
            else:
                environ["wsgi.input"] = io.BytesIO(rest[:length])
                self._buffer = rest[length:]
            return None
        given = (self, rest, head.expects_continue, self.state.settings.body_timeout)
        stream = ChunkedStream(*given) if head.chunked else LengthStream(*given, length)
        environ["wsgi.input"] = stream
        self._buffer = b""
        return stream

    def _run(self, environ: dict[str, Any], response: Response) -> None:
        """Run the application and send what it answers."""
        result: Any = None
        try:
            try:
                result = self.state.application(environ, response.start)
                response.finish(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except USER_FAULTS as error:
            response.keep_alive = False
            if isinstance(error, ClientGone) or response.excuses(error):
                self._client_is_gone()
                return
            if isinstance(error, HttpFault):  # of the body, that the application was reading
                fault = error
            else:
                logger.exception("the application failed")
                fault = HttpFault(500, "Internal error")
            if not response.headers_sent:
                environ[TOLD] = True
                is_head = environ["REQUEST_METHOD"] == "HEAD"
                response.sent = self._refuse(fault, environ.get("HTTP_X_REQUEST_ID"), is_head)
                response.status = str(fault.status)

    def _discard_body(
        self, stream: BodyStream, response: Response, environ: dict[str, Any]
    ) -> None:
        """Get past what the application left of the body, or give the connection up."""
        if stream.fault is not None and TOLD not in environ:
            # The application has made an answer of its own of it.
            self.log(stream.fault.message, "body")
        if not stream.finished and response.keep_alive:
            stream.skip()
        if stream.finished:
            self._buffer = stream.leftover()
        else:
            response.keep_alive = False
            self._linger()

    # The head

    def _read_head(self, buffer: bytes) -> tuple[Head | None, bytes]:
        """Parse a head that is not known yet, receiving the rest of it if need be.

        :returns: the head, if the client has sent all of it, and what came after it.
        """
        self._raw = buffer
        buffer = _without_empty_lines(buffer)
        end = buffer.find(b"\r\n\r\n") + 4
        if end > MAX_HEAD:
            raise HttpFault(431, f"The head is longer than {MAX_HEAD} bytes")
        if end > 3:
            text, rest = buffer[:end], buffer[end:]
            whole = parse_head(text)
            self.state.remember(text, whole)
            head: Head | None = whole
        else:
            head, rest = self._read_partial_head(buffer)
        if head is not None and head.upgrade and not self.state.may_upgrade():
            raise HttpFault(503, "No connection can be upgraded now")
        self._raw = b""
        return head, rest

    def _read_partial_head(self, buffer: bytes) -> tuple[Head | None, bytes]:
        """Feed llhttp as the bytes come, so that a malformed head is refused at once."""
        if self.leaving:
            return None, b""  # its place is taken: whole requests only
        self.deadline = time.monotonic() + self.state.settings.header_timeout
        parser = HeadParser()
        fed = skipped = 0
        while True:
            if fed == 0 and buffer.startswith(b"\r\n"):
                stripped = _without_empty_lines(buffer)
                skipped += len(buffer) - len(stripped)
                if skipped > MAX_EMPTY_LINES:
                    raise HttpFault(400, "Too many empty lines before a request")
                buffer = stripped
            end = buffer.find(b"\r\n\r\n", max(0, fed - 3)) + 4
            upto = end if end > 3 else len(buffer)
            check_beginning(buffer, fed, upto)
            if buffer != b"\r":  # maybe half of an empty line
                parser.feed(buffer[fed:upto])
                fed = upto
            if end > 3:
                return finish_head(buffer[:end], parser), buffer[end:]
            if parser.complete:
                raise HttpFault(400, "Malformed request")
            more = self._receive()
            if not more:
                if self._expired:
                    raise HttpFault(408, "The head did not come in time")
                return None, b""
            self._raw = buffer = buffer + more

    # The end

    def log(self, message: str, kind: Hashable, request_id: str | None = None) -> None:
        """Log as `ClientSocket.tell`, with the id of the request that is being answered, if any."""
        sent = travelling_id(self._last_environ.get("HTTP_X_REQUEST_ID"))
        super().log(message, kind, request_id or sent)

    def _refuse(self, fault: HttpFault, request_id: str | None, is_head: bool) -> int:
        """Answer with an error; the connection ends after it. Return the bytes of body sent."""
        request_id = travelling_id(request_id) or uuid.uuid4().hex
        if fault.status != 500:  # of which the log has the traceback
            self.log(f"{fault.message} ({fault.status})", fault.status, request_id)
        head, body = render_refusal(fault.status, fault.message, request_id)
        if is_head:
            body = b""
        try:
            self.send(head + body)
        except ClientGone:
            return 0
        self._linger()
        return len(body)

    def _linger(self) -> None:
        """Wait for the end of a client that may still be there."""
        if not self._gone and not self._expired:
            self.wait_for_end()


def _id_in(raw: bytes) -> str | None:
    """Find the request's id in what came of its head, malformed or not."""
    found = _REQUEST_ID.search(raw)
    return found[1].decode("ascii") if found else None


def _without_empty_lines(buffer: bytes) -> bytes:
    """Ignore empty lines before a request (RFC 9112, section 2.2)."""
    if not buffer.startswith(b"\r\n"):
        return buffer
    start = _EMPTY_LINES.match(buffer).end()  # type: ignore[union-attr]  # it always matches
    if start > MAX_EMPTY_LINES:
        raise HttpFault(400, "Too many empty lines before a request")
    return buffer[start:]
