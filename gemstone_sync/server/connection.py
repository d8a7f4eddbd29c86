"""One connection: read a head, run the application, answer, again.

Hot path: `HttpConnection._serve_one` runs for each request. Heads are remembered by their bytes,
because a client repeats the same one: the checks of `head` then run once per client, not per call.

The connection keeps one watcher on its socket, started all the time. It wakes the greenlet when
bytes come, it makes every connection wait its turn after every answer (gevent's own ``recv``
switches only when it would block, so one quick client could keep all others waiting), and it
notices a client that goes away while its call runs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
import greenlet

from ..concurrency import USER_FAULTS
from .head import MAX_HEAD, MAX_REQUEST_LINE, Head, HeadParser, HttpFault, finish_head, parse_head
from .response import Response, date_line
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

__all__ = ["HttpConnection"]

logger = logging.getLogger("gemstone_sync.server")
access_logger = logging.getLogger("gemstone_sync.access")

_RECEIVE = 64 * 1024
#: A client that takes nothing of an answer for so long is gone.
SEND_SECONDS = 30.0

_NEVER = float("inf")

_STATUS = {
    400: "400 Bad Request",
    408: "408 Request Timeout",
    414: "414 URI Too Long",
    417: "417 Expectation Failed",
    431: "431 Request Header Fields Too Large",
    500: "500 Internal Server Error",
    501: "501 Not Implemented",
    505: "505 HTTP Version Not Supported",
}


class HttpConnection:
    """The server's ``handler_class``: made for each accepted socket, then `handle` runs.

    :ivar idle: no request is being read or answered.
    :ivar waits_for_client: nothing is being done for the client: it is its turn.
    :ivar deadline: when the server's sweep ends what goes on now (``time.monotonic()``).
    """

    __slots__ = (
        "_body_deadline",
        "_buffer",
        "_environ",
        "_expired",
        "_gone",
        "_hub",
        "_is_head",
        "_last_environ",
        "_last_head",
        "_readable",
        "_receive_raw",
        "_send_raw",
        "_waiting",
        "_watcher",
        "address",
        "deadline",
        "idle",
        "server",
        "socket",
    )

    def __init__(self, sock: Any, address: Any, server: GeventServer) -> None:
        self.socket = sock
        self.address = address
        self.server = server
        self.idle = True
        self.deadline = _NEVER
        self._buffer = b""
        self._body_deadline = _NEVER
        self._is_head = False
        self._environ: dict[str, Any] = {}
        #: The environ of the last request before its body: most requests have the head of the last.
        self._last_environ: dict[str, Any] = {}
        self._last_head: Head | None = None
        self._expired = False
        self._gone = False
        self._readable = False
        self._waiting: Any = None
        self._watcher: Any = None

    def handle(self) -> None:
        """Serve the connection until it ends."""
        server = self.server
        server.connections[self] = None
        try:
            self._set_up()
            while self._serve_one():
                pass
        except HttpFault as fault:
            self._refuse(fault)
        except OSError as error:
            # The client went away, or never spoke TLS.
            logger.debug("connection from %s: %s", self.address, error)
        except Exception:
            logger.exception("connection from %s failed", self.address)
        finally:
            server.connections.pop(self, None)
            self._close()

    def _set_up(self) -> None:
        server = self.server
        sock = self.socket
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.deadline = time.monotonic() + server.timeouts.tls_handshake
        if server.tls_context is not None:
            # In two steps: self.socket must be the one that holds the descriptor meanwhile.
            sock = self.socket = server.tls_context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
            sock.do_handshake()
            self._receive_raw, self._send_raw = sock.recv, sock.send
        else:
            # The plain socket under gevent's: both know how to wait, this one costs less.
            self._receive_raw, self._send_raw = sock._sock.recv, sock._sock.send
            self._hub = gevent.get_hub()
            self._watcher = self._hub.loop.io(sock.fileno(), 1)
            self._watcher.start(self._on_readable)
        self._environ = server.environ_for(self.address)
        self.deadline = time.monotonic() + server.timeouts.keep_alive

    @property
    def waits_for_client(self) -> bool:
        return self._waiting is not None

    # One request

    def _serve_one(self) -> bool:
        """Serve one request; False when the connection ends."""
        server = self.server
        buffer = self._buffer
        if not buffer:
            self.idle = True
            if server.is_crowded():
                # Behind the others: the connection that is idle for longest goes first.
                server.connections[self] = server.connections.pop(self, None)
            self.deadline = server.now + server.timeouts.keep_alive
            buffer = self._receive()
            if not buffer:
                return False
            self.idle = False
        end = buffer.find(b"\r\n\r\n") + 4
        head = server.known_heads.get(buffer[:end]) if end > 3 else None
        if head is None:
            self._is_head = buffer.startswith(b"HEAD ")
            head, rest = self._read_head(buffer)
            if head is None:
                return False
        else:
            rest = buffer[end:]
        self.deadline = _NEVER
        server.requests += 1
        if head is not self._last_head:
            self._last_head = head
            self._last_environ = {**self._environ, **head.environ}
        environ = self._last_environ.copy()
        if head.forwarded:
            server.trust(environ, head.forwarded, self.address)
        stream = self._body(head, rest, environ)
        response = Response(self, head, stream, head.keep_alive)
        self._run(environ, response)
        if server.access_log:
            self._log_access(environ, response)
        if stream is not None:
            self._skip(stream, response)
        return response.keep_alive and not self._gone

    def _body(self, head: Head, rest: bytes, environ: dict[str, Any]) -> BodyStream | None:
        """Set ``wsgi.input``; the stream if not all of the body is here yet."""
        length = head.content_length
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
        self._body_deadline = time.monotonic() + self.server.timeouts.body
        return stream

    def _run(self, environ: dict[str, Any], response: Response) -> None:
        """Run the application and send what it answers."""
        result: Any = None
        try:
            try:
                result = self.server.application(environ, response.start)
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
                self._is_head = environ["REQUEST_METHOD"] == "HEAD"
                self._refuse(fault)
        except USER_FAULTS:
            logger.exception("the application failed")
            response.keep_alive = False
            if not response.headers_sent:
                self._is_head = environ["REQUEST_METHOD"] == "HEAD"
                self._refuse(HttpFault(500, "Internal error"))

    def _skip(self, stream: BodyStream, response: Response) -> None:
        """Get past what the application left of the body, or give the connection up."""
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
        while buffer.startswith(b"\r\n"):  # RFC 9112, section 2.2: empty lines before a request
            buffer = buffer[2:]
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
        self.deadline = time.monotonic() + self.server.timeouts.head
        parser = HeadParser()
        fed = 0
        while True:
            while fed == 0 and buffer.startswith(b"\r\n"):
                buffer = buffer[2:]
            end = buffer.find(b"\r\n\r\n", max(0, fed - 3)) + 4
            upto = end if end > 3 else len(buffer)
            if upto > MAX_HEAD:
                raise HttpFault(431, f"The head is longer than {MAX_HEAD} bytes")
            if buffer.find(b"\r\n", 0, MAX_REQUEST_LINE + 2) < 0 and upto > MAX_REQUEST_LINE:
                raise HttpFault(414, f"The request line is longer than {MAX_REQUEST_LINE} bytes")
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
            buffer += more
            self._is_head = buffer.startswith(b"HEAD ")

    # Bytes in

    def _receive(self) -> bytes:
        """Wait for bytes; none when the connection ended or its time is over."""
        if self._watcher is None:  # TLS: gevent's socket waits
            return self._receive_tls()
        while True:
            self._wait_readable()
            if self._expired:
                return b""
            self._readable = False
            try:
                return self._receive_raw(_RECEIVE)
            except BlockingIOError:
                continue

    def _wait_readable(self) -> None:
        if not self._watcher.active:
            self._watcher.start(self._on_readable)
        self._waiting = greenlet.getcurrent()
        try:
            while not self._readable and not self._expired:
                self._hub.switch()
        finally:
            self._waiting = None

    def _receive_tls(self) -> bytes:
        data = self._receive_raw(_RECEIVE)
        return b"" if self._expired else data

    def _on_readable(self) -> None:
        """Runs in the hub when the socket has bytes, or its end, to read."""
        self._readable = True
        if self._waiting is not None:
            self._waiting.switch()
            return
        # A call is running. Bytes are the next request and can wait; an end means that nobody will
        # take the answer (or that the client only closed its half: the answer is sent anyway).
        self._watcher.stop()
        try:
            if self.socket._sock.recv(1, socket.MSG_PEEK) == b"":
                self.server.clients_gone += 1
        except BlockingIOError:
            self._readable = False
        except OSError:
            self._client_is_gone()

    def receive_body(self) -> bytes:
        """For body streams: wait for more of the body.

        :raises HttpFault: 408 when the time for the body is over.
        """
        self.deadline = self._body_deadline
        try:
            data = self._receive()
        except OSError as error:
            raise ClientGone(str(error)) from error
        finally:
            self.deadline = _NEVER  # the application's own time is not the client's
        if self._expired:
            raise HttpFault(408, "The body did not come in time")
        return data

    # Bytes out

    def send(self, data: bytes) -> None:
        """Send all of it.

        :raises ClientGone: when the client is gone.
        """
        try:
            sent = self._send_raw(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(str(error)) from error
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, data: memoryview) -> None:
        before = self.deadline
        try:
            while data:
                # The time is for each step: a slow client that goes on taking is served.
                self.deadline = time.monotonic() + SEND_SECONDS
                sent = self.socket.send(data)
                data = data[sent:]
        except OSError as error:
            raise ClientGone(str(error)) from error
        finally:
            self.deadline = before

    # The end

    def expire(self) -> None:
        """Called by the server's sweep: the time for what goes on is over."""
        self._expired = True
        self.deadline = _NEVER
        if self._waiting is not None:
            self._waiting.switch()
        else:
            self._shut_down(socket.SHUT_RDWR)  # sending, or in a TLS read

    def close_idle(self) -> None:
        """End an idle connection; a request that has arrived already is still answered."""
        if self._watcher is None:
            self._shut_down(socket.SHUT_RDWR)
        else:
            self._shut_down(socket.SHUT_RD)

    def cut_off(self) -> None:
        """End the connection whatever it does."""
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):  # closed in the meantime
            # Not SSLSocket's own, which drops its state first.
            gevent.socket.socket.shutdown(self.socket, how)

    def _client_is_gone(self) -> None:
        if not self._gone:
            self._gone = True
            self.server.clients_gone += 1

    def _refuse(self, fault: HttpFault) -> None:
        """Answer with an error; the connection ends after it."""
        body = b'{"jsonrpc":"2.0","error":{"code":%d,"message":"%b"},"id":null}' % (
            -32603 if fault.status == 500 else -32600,
            fault.message.encode().replace(b'"', b"'").replace(b"\\", b"/"),
        )
        head = (
            f"HTTP/1.1 {_STATUS[fault.status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        )
        try:
            self.send(head.encode() + date_line() + b"\r\n" + (b"" if self._is_head else body))
        except ClientGone:
            return
        self._linger()

    def _linger(self) -> None:
        """Read a little of what still comes, so that the answer is not lost to a reset."""
        if self._gone or self._expired:
            return
        self._shut_down(socket.SHUT_WR)
        self.deadline = time.monotonic() + DRAIN_SECONDS
        left = DRAIN_BYTES
        try:
            while left > 0 and (data := self._receive()):
                left -= len(data)
        except OSError:
            pass

    def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self.deadline = _NEVER
        self.socket.close()

    def _log_access(self, environ: dict[str, Any], response: Response) -> None:
        """The combined log format."""
        if sys.is_finalizing():
            return
        access_logger.info(
            '%s - - [%s] "%s %s %s" %s %d "%s" "%s"',
            environ["REMOTE_ADDR"],
            time.strftime("%d/%b/%Y:%H:%M:%S %z"),
            environ["REQUEST_METHOD"],
            environ["RAW_URI"],
            environ["SERVER_PROTOCOL"],
            response.status[:3] or "500",
            response.sent,
            environ.get("HTTP_REFERER", "-"),
            environ.get("HTTP_USER_AGENT", "-"),
        )
