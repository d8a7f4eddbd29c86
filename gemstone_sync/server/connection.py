"""One connection: read a head, run the application, answer, again.

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
from typing import TYPE_CHECKING, Any

import gevent

from ..concurrency import USER_FAULTS, let_others_run, travelling_id
from .access_log import log_refusal, log_request
from .channel import NEVER, Channel
from .endpoint import TOLD
from .gevent_websocket import offered_websocket
from .handed import HandedSocket, UpgradeResponse
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
from .streams import (
    DRAIN_BYTES,
    DRAIN_SECONDS,
    BodyStream,
    ChunkedStream,
    ClientGone,
    LengthStream,
)

if TYPE_CHECKING:
    from .gevent_server import GeventServer

__all__ = ["FIRST_TO_GO", "INDISPENSABLE", "HttpConnection"]

logger = logging.getLogger("gemstone_sync.server")

#: See `HttpConnection.rank`. In between: slow heads; idle clients; clients between two calls and
#: requests under way.
FIRST_TO_GO, INDISPENSABLE = 0, 4
#: Seconds. A client that is idle for less is about to send its next call, or its first.
BETWEEN_CALLS = 0.05

#: Requests that one connection may have answered in a row when it sends many at once. Beside 5
#: floods others' calls took 16 ms (median) at 16, 0.6 ms at 4, and the flood itself is as quick.
PIPELINED_AT_ONCE = 4
#: Lines of chunk framing that one may have read in a row, some 3 µs each: 64 KB hold 11,000 chunks.
AT_ONCE = 256

#: Bytes a second that a body must keep up, but for `body_timeout` seconds: a byte each 9 s would
#: hold the connection for years.
MIN_BODY_RATE = 1000

_REQUEST_ID = re.compile(rb"(?i)\r\nx-request-id:[ \t]*([ -~]*)\r\n")
_EMPTY_LINES = re.compile(rb"(\r\n)*")
#: In bytes. One or two are an old client's; a flood of them is work for nothing.
MAX_EMPTY_LINES = 8


class HttpConnection(Channel):
    """The server's ``handler_class``: made for each accepted socket, then `handle` runs."""

    __slots__ = (
        "_body_deadline",
        "_body_patience",
        "_buffer",
        "_environ",
        "_idle_since",
        "_is_head",
        "_last_environ",
        "_last_head",
        "_raw",
        "_work",
        "leaving",
    )

    def __init__(self, sock: Any, address: Any, server: GeventServer) -> None:
        super().__init__(sock, address, server)
        self._buffer = b""
        self._body_deadline = NEVER
        self._body_patience = 0.0
        self._idle_since = time.monotonic()
        self._work = 0
        #: Told to end because there was no room; set by the server.
        self.leaving = False
        self._is_head = False
        #: What came of a head that is being read.
        self._raw = b""
        self._environ: dict[str, Any] = {}
        #: The environ of the last request before its body: most requests have the head of the last.
        self._last_environ: dict[str, Any] = {}
        self._last_head: Head | None = None

    def handle(self) -> None:
        """Serve the connection."""
        self.server.connections[self] = None
        self._serve()

    def _serve(self) -> None:
        """Serve requests until the connection ends, or one has left something in this greenlet.

        The next is served in a new one then: it must not find the thread-locals and context
        variables of another call, and they must not live on while it is waited for.
        """
        server, context = self.server, len(copy_context())
        # See `has_thread_locals`: looked at once, since this is done after each request.
        attributes = vars(gevent.getcurrent())
        known = len(attributes)
        goes_on = False
        try:
            if not self._environ:
                self._set_up()
            while self._serve_one():
                if len(attributes) != known or len(copy_context()) != context:
                    goes_on = True
                    return
        except HttpFault as fault:
            sent = self._refuse(fault, _id_in(self._raw))
            if server.access_log:
                log_refusal(self.address, self._raw, str(fault.status), sent)
        except OSError as error:
            # The client went away, or never spoke TLS.
            logger.debug("connection from %s: %s", self.address, error)
        except Exception:
            logger.exception("connection from %s failed", self.address)
        finally:
            if goes_on:
                gevent.spawn(self._serve)
            else:
                server.forget(self)
                self._close()

    def _set_up(self) -> None:
        self._open()
        self._environ = self.server.environ_for(self.address)
        self.deadline = time.monotonic() + self.server.timeouts.keep_alive

    def rank(self, now: float) -> int:
        """How well it can be done without when there is no room: `FIRST_TO_GO` up to
        `INDISPENSABLE`."""
        if self.leaving:
            return INDISPENSABLE  # told already
        if self.idle:
            if now - self._idle_since < BETWEEN_CALLS:
                return 3
            return FIRST_TO_GO if self._last_head is None else 2
        if not self.waits_for_client:
            return INDISPENSABLE  # its call runs, or its answer is being sent
        begun = self.deadline - self.server.timeouts.head
        # A head that takes seconds to arrive is an attacker's, or on a link that is of no use.
        return 1 if self._last_head is None and now - begun > 1.0 else 3

    # One request

    def _serve_one(self) -> bool:
        """Serve one request; False when the connection ends."""
        server = self.server
        buffer = self._buffer
        if not buffer:
            self.idle = True
            if server.is_crowded():
                self._idle_since = time.monotonic()
                # Behind the others: the connection that is idle for longest goes first.
                server.connections[self] = server.connections.pop(self, None)
            self.deadline = server.now + server.timeouts.keep_alive
            buffer = self._receive()
            if not buffer:
                return False
            self.idle = False
        else:
            self.spend(AT_ONCE // PIPELINED_AT_ONCE)  # however much this one has sent
        end = buffer.find(b"\r\n\r\n") + 4
        head = server.known_heads.get(buffer[:end]) if end > 3 else None
        if head is None:
            self._raw = buffer
            self._is_head = buffer.startswith(b"HEAD ")
            head, rest = self._read_head(buffer)
            if head is None or head.upgrade:
                return head is not None and self._serve_upgrade(head, rest)
        else:
            rest = buffer[end:]
        self.deadline = NEVER
        server.requests += 1
        if head is not self._last_head:
            self._last_head = head
            self._last_environ = {**self._environ, **head.environ}
        environ = self._last_environ.copy()
        if head.forwarded:
            server.trust(environ, head.forwarded, self.address)
        stream = self._body(head, rest, environ)
        response = Response(self, head, stream, head.keep_alive)
        self._run(server.application, environ, response)
        if server.access_log:
            log_request(environ, response.status, response.sent)
        if stream is not None:
            self._skip(stream, response, environ)
        if self.is_ending and not self._buffer:
            return False  # also after an answer whose head had gone out before
        return response.keep_alive and not self._gone

    def _serve_upgrade(self, head: Head, rest: bytes) -> bool:
        """Serve a request that would like to leave HTTP: the socket is the application's if it
        wants it. Apart from the others, which must not pay for it."""
        server = self.server
        if server.draining or not server.handed.has_room:
            raise HttpFault(503, "No connection can be upgraded now")
        self.deadline = NEVER
        server.requests += 1
        self._last_head, self._last_environ = head, {**self._environ, **head.environ}
        environ = self._last_environ.copy()
        if head.forwarded:
            server.trust(environ, head.forwarded, self.address)
        self._body(head, rest, environ)
        handed = HandedSocket(self, self._send_raw, head)
        environ["gunicorn.socket"] = handed
        response = UpgradeResponse(self, head, handed)
        with offered_websocket(environ, handed, server.application):
            self._run(handed.quiet(server.application), environ, response)
        if server.access_log:
            log_request(environ, "101" if handed.taken else response.status, response.sent)
        handed.finish()
        if handed.taken:
            server.take_back(self)
            self._wait_for_end()
            return False
        if self.is_ending and not self._buffer:
            return False
        return response.keep_alive and not self._gone

    def hand_over(self, handed: HandedSocket) -> bytes:
        """Called when the application takes the socket; returns what was read past the head."""
        self._watcher.stop()
        read, self._buffer, self._early = self._buffer + self._early, b"", b""
        self._send_raw = _refuse_to_send
        self._counted = True  # as gone: to HTTP it is
        self.server.hand_over(self, handed)
        return read

    def _body(self, head: Head, rest: bytes, environ: dict[str, Any]) -> BodyStream | None:
        """Set ``wsgi.input``; the stream if not all of the body is here yet.

        :raises HttpFault: 408 for a part of a body on a connection that makes room for another.
        """
        length = head.content_length
        if self.leaving and (head.chunked or len(rest) < length):
            raise HttpFault(408, "The body did not come in time")
        if head.chunked:
            stream: BodyStream = ChunkedStream(self, rest, head.expects_continue)
        elif len(rest) >= length:
            if len(rest) == length:
                environ["wsgi.input"] = io.BytesIO(rest)
                self._buffer = b""
            else:
                environ["wsgi.input"] = io.BytesIO(rest[:length])
                self._buffer = rest[length:]
            return None
        else:
            stream = LengthStream(self, rest, head.expects_continue, length)
        environ["wsgi.input"] = stream
        self._buffer = b""
        self._body_deadline = NEVER
        self._body_patience = self.server.timeouts.body
        return stream

    def _run(self, application: Any, environ: dict[str, Any], response: Response) -> None:
        """Run the application and send what it answers."""
        result: Any = None
        try:
            try:
                result = application(environ, response.start)
                response.finish(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except ClientGone:
            self._client_is_gone()
            response.keep_alive = False
        except HttpFault as fault:  # of the body, that the application was reading
            response.keep_alive = False
            if not response.headers_sent:
                self._refuse_running(fault, environ, response)
        except USER_FAULTS:
            logger.exception("the application failed")
            response.keep_alive = False
            if not response.headers_sent:
                self._refuse_running(HttpFault(500, "Internal error"), environ, response)

    def _skip(self, stream: BodyStream, response: Response, environ: dict[str, Any]) -> None:
        """Get past what the application left of the body, or give the connection up."""
        if stream.fault is not None and TOLD not in environ:
            # The application has made an answer of its own of it.
            self.tell(stream.fault.message, "body")
        if not stream.finished and response.keep_alive:
            self._body_deadline = time.monotonic() + DRAIN_SECONDS
            try:
                stream.read(DRAIN_BYTES)
            except (HttpFault, OSError):
                response.keep_alive = False
        if stream.finished:
            self._buffer = stream.leftover()
        else:
            response.keep_alive = False
            self._linger()

    # The head

    def _read_head(self, buffer: bytes) -> tuple[Head | None, bytes]:
        """Parse a head that is not known yet, receiving the rest of it if need be."""
        buffer = _without_empty_lines(buffer)
        end = buffer.find(b"\r\n\r\n") + 4
        if end > 3:
            if end > MAX_HEAD:
                raise HttpFault(431, f"The head is longer than {MAX_HEAD} bytes")
            text = buffer[:end]
            head = parse_head(text)
            self.server.remember(text, head)
            return head, buffer[end:]
        return self._read_partial_head(buffer)

    def _read_partial_head(self, buffer: bytes) -> tuple[Head | None, bytes]:
        """Feed llhttp as the bytes come, so that a malformed head is refused at once."""
        if self.leaving:
            return None, b""  # its place is taken: whole requests only
        self.deadline = time.monotonic() + self.server.timeouts.head
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
            self._is_head = buffer.startswith(b"HEAD ")

    # Bytes

    def receive_body(self) -> bytes:
        """For body streams: wait for more of the body.

        :raises HttpFault: 408 when the time for the body is over.
        """
        began = time.monotonic()
        patience = min(self.server.timeouts.body, self._body_patience)
        self.deadline = min(self._body_deadline, began + patience)
        try:
            data = self._receive()
        except OSError as error:
            raise ClientGone(str(error)) from error
        finally:
            self.deadline = NEVER  # the application's own time is not the client's
        if self._expired:
            raise HttpFault(408, "The body did not come in time")
        # As Apache's mod_reqtimeout: what comes earns time for what is to come.
        self._body_patience += len(data) / MIN_BODY_RATE - (time.monotonic() - began)
        return data

    def spend(self, work: int) -> None:
        """Count work, and after `AT_ONCE` go on in a later turn of the hub."""
        self._work += work
        if self._work >= AT_ONCE:
            self._work = 0
            let_others_run()

    # The end

    def tell(self, message: str, kind: Hashable, request_id: str | None = None) -> None:
        """As `Channel.tell`; with the id of the request that is being answered, if it has one."""
        sent = travelling_id(self._last_environ.get("HTTP_X_REQUEST_ID"))
        super().tell(message, kind, request_id or sent)

    def _refuse_running(
        self, fault: HttpFault, environ: dict[str, Any], response: Response
    ) -> None:
        """Refuse a request whose application has begun."""
        self._is_head = environ["REQUEST_METHOD"] == "HEAD"
        environ[TOLD] = True
        response.sent = self._refuse(fault, environ.get("HTTP_X_REQUEST_ID"))
        response.status = str(fault.status)

    def _refuse(self, fault: HttpFault, request_id: str | None) -> int:
        """Answer with an error; the connection ends after it. Returns the bytes of body sent."""
        request_id = travelling_id(request_id) or uuid.uuid4().hex
        if fault.status != 500:  # of which the log has the traceback
            self.tell(f"{fault.message} ({fault.status})", fault.status, request_id)
        head, body = render_refusal(fault.status, fault.message, request_id)
        try:
            if self._is_head:
                body = b""
            self.send(head + body)
        except ClientGone:
            return 0
        self._linger()
        return len(body)

    def _linger(self) -> None:
        """Read a little of what still comes, so that the answer is not lost to a reset."""
        if not self._gone and not self._expired:
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        self.end_sending()
        self.deadline = time.monotonic() + DRAIN_SECONDS
        left = DRAIN_BYTES
        try:
            while left > 0 and (data := self._receive()):
                left -= len(data)
        except OSError:
            pass


def _refuse_to_send(data: Any) -> int:
    raise ClientGone("the socket was handed over")


def _id_in(raw: bytes) -> str | None:
    """The request's id in what came of its head, malformed or not."""
    found = _REQUEST_ID.search(raw)
    return found[1].decode("ascii") if found else None


def _without_empty_lines(buffer: bytes) -> bytes:
    """RFC 9112, section 2.2: a server ignores empty lines before a request."""
    if not buffer.startswith(b"\r\n"):
        return buffer
    start = _EMPTY_LINES.match(buffer).end()  # type: ignore[union-attr]  # it always matches
    if start > MAX_EMPTY_LINES:
        raise HttpFault(400, "Too many empty lines before a request")
    return buffer[start:]
