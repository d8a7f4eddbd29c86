"""The load generator: a program of its own, so that its CPU is never counted as the server's.

It reads one job a line (JSON) on standard input. For each it opens keep-alive connections, warms
the server up over them, prints `{"ready": true}`, waits for the line `go`, makes the calls and
prints the result. Between `ready` and `go` nothing happens on the wire: that is when the caller
reads the server's CPU clock.

Closed loop: each connection has one call in flight and sends the next when the answer is there.
Every answer is checked: the first one parsed, the others by comparing their bytes with it.
As cheap as possible: standard library only, and blocking sockets, because on loopback a request
and its answer fit into one segment each.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import struct
import sys
from dataclasses import asdict, dataclass
from time import monotonic, perf_counter_ns

#: What every call must answer: add(1, 2), and burn() returns the same.
EXPECTED = 3
#: A single answer that takes longer than this (seconds) is a fault of the server.
ANSWER_LIMIT = 10


class BadAnswer(Exception):
    """The server closed, timed out or answered something unexpected; or nobody said go."""


@dataclass(frozen=True)
class Job:
    """One measurement.

    :param port: on 127.0.0.1, the only host this program ever talks to
    :param request: the whole HTTP request, the same for every call (latin-1)
    :param items: 0 for a single call; n for a batch of n
    :param warm: calls before `ready`, not measured
    :param limit: seconds for all measured calls; more is an error, not a longer run
    """

    port: int
    request: str
    items: int
    connections: int
    warm: int
    calls: int
    limit: float


@dataclass(frozen=True)
class Result:
    """What one job measured; times in seconds, per call (a batch is one call)."""

    calls: int
    seconds: float
    p50: float
    p99: float
    max: float


def http_request(port: int, body: bytes, path: str = "/api") -> bytes:
    """Return a POST with the header fields that curl sends."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "User-Agent: curl/7.88.1\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def body_of(response: bytes) -> bytes | None:
    """Return the body (chunks joined) of a whole response, None while it is incomplete."""
    head, separator, rest = response.partition(b"\r\n\r\n")
    if not separator:
        return None
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b"chunked" not in fields.get(b"transfer-encoding", b""):
        length = int(fields[b"content-length"])
        return rest if len(rest) >= length else None
    body = b""
    while True:
        size_line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return None
        size = int(size_line.split(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        if size == 0:
            return body
        body += rest[:size]
        rest = rest[size + 2 :]


def check(response: bytes, items: int) -> None:
    """Raise :exc:`BadAnswer` unless a 200 brings the expected result (in every batch item)."""
    body = body_of(response)
    try:
        answer = json.loads(body or b"")
        if items:
            good = len(answer) == items and all(item["result"] == EXPECTED for item in answer)
        else:
            good = answer["result"] == EXPECTED and answer["id"] == 1
    except (ValueError, KeyError, TypeError):
        good = False
    if not good or not response.startswith(b"HTTP/1.1 200"):
        raise BadAnswer(f"unexpected answer: {response[-200:]!r}")


def finish(connection: socket.socket, received: bytes) -> bytes:
    """Read on until the response is whole: for servers that send head and body apart."""
    while body_of(received) is None:
        try:
            more = connection.recv(65536)
        except BlockingIOError:  # SO_RCVTIMEO
            raise BadAnswer(f"no whole answer within {ANSWER_LIMIT} s") from None
        if not more:
            raise BadAnswer(f"connection closed after {received[-200:]!r}")
        received += more
    return received


def connect(port: int) -> socket.socket:
    """Return a blocking connection; SO_RCVTIMEO, since settimeout costs a poll() per recv."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    limit = struct.pack("ll", ANSWER_LIMIT, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return connection


def call_once(port: int, request: bytes, items: int = 0) -> bytes:
    """Make one checked call on a connection of its own; return the whole response.

    :raises OSError: nobody listens; :raises BadAnswer: the answer is not the expected one
    """
    with connect(port) as connection:
        connection.sendall(request)
        response = finish(connection, b"")
    check(response, items)
    return response


def run_single(
    connection: socket.socket, job: Job, request: bytes, tail: bytes, calls: int
) -> list[int]:
    """Make the calls one after the other; return each one's nanoseconds.

    Hot: nothing is parsed when the bytes match.
    """
    send, receive, now = connection.sendall, connection.recv, perf_counter_ns
    laps: list[int] = []
    deadline = now() + int(job.limit * 1e9)
    for _ in range(calls):
        start = now()
        if start > deadline:
            raise BadAnswer(f"{len(laps)} of {calls} calls within {job.limit} s")
        send(request)
        try:
            response = receive(65536)
        except BlockingIOError:
            response = b""
        if not (response.endswith(tail) and response.startswith(b"HTTP/1.1 200")):
            check(finish(connection, response), job.items)
        laps.append(now() - start)
    return laps


def run_many(
    connections: list[socket.socket], job: Job, request: bytes, tail: bytes, calls: int
) -> list[int]:
    """Keep one call in flight on each connection; return each call's nanoseconds."""
    now = perf_counter_ns
    laps: list[int] = []
    started: dict[int, int] = {}
    by_fd = {connection.fileno(): connection for connection in connections}
    deadline = now() + int(job.limit * 1e9)
    with select.epoll() as poll:
        to_send = calls
        for fd, connection in list(by_fd.items())[:calls]:
            poll.register(fd, select.EPOLLIN)
            started[fd] = now()
            connection.sendall(request)
            to_send -= 1
        while len(laps) < calls:
            ready = poll.poll(ANSWER_LIMIT)
            if not ready or now() > deadline:
                raise BadAnswer(f"{len(laps)} of {calls} calls within the time limit")
            for fd, _ in ready:
                connection = by_fd[fd]
                response = connection.recv(65536)
                if not (response.endswith(tail) and response.startswith(b"HTTP/1.1 200")):
                    check(finish(connection, response), job.items)
                end = now()
                laps.append(end - started[fd])
                if to_send:
                    to_send -= 1
                    started[fd] = end
                    connection.sendall(request)
    return laps


def run(
    connections: list[socket.socket], job: Job, request: bytes, tail: bytes, calls: int
) -> list[int]:
    """Make the calls over one connection or several."""
    if len(connections) == 1:
        return run_single(connections[0], job, request, tail, calls)
    return run_many(connections, job, request, tail, calls)


def serve(job: Job) -> Result:
    """Carry out one job: connect, check, warm up, say ready, wait for go, measure."""
    request = job.request.encode("latin-1")
    tail = call_once(job.port, request, job.items).partition(b"\r\n\r\n")[2]
    connections = [connect(job.port) for _ in range(job.connections)]
    try:
        run(connections, job, request, tail, job.warm)
        gc.collect()
        gc.disable()
        tell({"ready": True})
        if sys.stdin.readline() != "go\n":
            raise BadAnswer("cancelled")
        start = monotonic()
        laps = run(connections, job, request, tail, job.calls)
        seconds = monotonic() - start
    finally:
        gc.enable()
        for connection in connections:
            connection.close()
    laps.sort()
    p50, p99 = (laps[int(len(laps) * part)] / 1e9 for part in (0.5, 0.99))
    return Result(len(laps), seconds, p50, p99, laps[-1] / 1e9)


def tell(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    """Serve jobs until standard input ends."""
    for line in iter(sys.stdin.readline, ""):
        try:
            tell(asdict(serve(Job(**json.loads(line)))))
        except (BadAnswer, OSError) as error:
            tell({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
