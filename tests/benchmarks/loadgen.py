"""The load generator: a process of its own (`runner.py loadgen`), whose CPU is never the server's.

For each job it opens keep-alive connections, warms the server up over them, says `{"ready": true}`,
waits for the line `go`, and makes the calls. Between `ready` and `go` nothing happens on the wire:
that is when the caller reads the server's CPU clock.

Closed loop: each connection has one call in flight and sends the next when the answer is there.
Every answer is checked: the first one parsed, the others by comparing their bytes with it.
As cheap as possible: standard library only, and blocking sockets, because on loopback a request
and its answer fit into one segment each. Other programs use the connections as they are.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import struct
import sys
from time import monotonic, perf_counter, perf_counter_ns, sleep

from runner import percentiles, say

#: What every call must answer: add(1, 2), and burn() returns the same.
EXPECTED = 3
#: A single answer that takes longer than this (seconds) is a fault of the server.
ANSWER_LIMIT = 10


class Fault(Exception):
    """What is measured failed: it ended, hangs, or answered something wrong; in one line."""


def compact(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def call_of(method: str, *params: object) -> bytes:
    return compact({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})


ADD = compact({"jsonrpc": "2.0", "method": "add", "params": {"a": 1, "b": 2}, "id": 1})


def http_request(port: int, body: bytes, **fields: str) -> bytes:
    """Return a POST with the header fields that curl sends; underscores stand for dashes."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return (
        f"POST /api HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"User-Agent: curl/7.88.1\r\nAccept: */*\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def connect(port: int) -> socket.socket:
    """Return a blocking connection; SO_RCVTIMEO, since settimeout costs a poll() per recv."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    limit = struct.pack("ll", ANSWER_LIMIT, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return connection


def finish(connection: socket.socket, received: bytes = b"") -> bytes:
    """Read on until the response is whole: for servers that send head and body apart."""
    whole = bytearray(received)
    size = float("inf")
    while True:
        end = whole.find(b"\r\n\r\n") + 4
        if end >= 4 and (length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", whole[:end])):
            size = end + int(length[1])
        if len(whole) >= size:
            return bytes(whole)
        try:
            more = connection.recv(1 << 20)
        except BlockingIOError:  # SO_RCVTIMEO
            raise Fault(f"no whole answer within {ANSWER_LIMIT} s") from None
        if not more:
            raise Fault(f"connection closed after {bytes(whole[-200:])!r}")
        whole += more


def check(response: bytes, items: int = 0) -> bytes:
    """Return the body of a 200 that brings the expected result (in every item of a batch)."""
    body = response.partition(b"\r\n\r\n")[2]
    try:
        answers = json.loads(body)
        answers = answers if items else [answers]
        ids = [answer["id"] for answer in answers if answer["result"] == EXPECTED]
        good = ids == [*range(1, (items or 1) + 1)] and response.startswith(b"HTTP/1.1 200")
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise Fault(f"unexpected answer: {response[-200:]!r}")
    return body


class Connection:
    """A kept connection, for one call after another.

    :param fields: more fields of each request.
    """

    def __init__(self, port: int, **fields: str) -> None:
        self._port, self._fields = port, fields
        self._socket = connect(port)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    close = __exit__

    def send(self, body: bytes) -> None:
        self._socket.sendall(http_request(self._port, body, **self._fields))

    def call(self, body: bytes) -> bytes:
        """Return the body of the answer.

        :raises Fault: it is no 200, or does not come in time
        """
        self.send(body)
        return self.answer()

    def answer(self) -> bytes:
        response = finish(self._socket)
        if not response.startswith(b"HTTP/1.1 200"):
            raise Fault(f"unexpected answer: {response[:200]!r}")
        return response.partition(b"\r\n\r\n")[2]

    def add(self) -> None:
        """Make a checked call."""
        self.send(ADD)
        check(finish(self._socket))


def laps_of(service: Connection, seconds: float, pace: float = 0.005) -> list[float]:
    """Call at a steady pace; milliseconds of each call."""
    laps = []
    started = due = monotonic()
    while (now := monotonic()) < started + seconds:
        if now < due:
            sleep(due - now)
        due += pace
        sent = perf_counter()
        service.add()
        laps.append((perf_counter() - sent) * 1e3)
        due = max(due, monotonic())
    return laps


# The load generator's process


def run(job: dict, connections: list[socket.socket], tail: bytes, calls: int) -> list[int]:
    """Keep one call in flight on each connection; return each call's nanoseconds.

    Hot: nothing is parsed when the bytes match.
    """
    now, request = perf_counter_ns, job["request"]
    laps: list[int] = []
    started: dict[int, int] = {}
    by_fd = {connection.fileno(): connection for connection in connections[:calls]}
    deadline = now() + int(job["limit"] * 1e9)
    with select.epoll() as poll:
        for fd, connection in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            started[fd] = now()
            connection.sendall(request)
        to_send = calls - len(by_fd)
        while len(laps) < calls:
            ready = poll.poll(ANSWER_LIMIT)
            if not ready or now() > deadline:
                raise Fault(f"{len(laps)} of {calls} calls within the time limit")
            for fd, _ in ready:
                connection = by_fd[fd]
                response = connection.recv(65536)
                if not (response.endswith(tail) and response.startswith(b"HTTP/1.1 200")):
                    check(finish(connection, response), job["items"])
                end = now()
                laps.append(end - started[fd])
                if to_send:
                    to_send -= 1
                    started[fd] = end
                    connection.sendall(request)
    return laps


def serve(job: dict) -> dict[str, float]:
    """Connect, check, warm up, say ready, wait for go, measure.

    A job has ``port`` (on 127.0.0.1), ``body`` (of each request), ``items`` (of a batch; 0 for a
    single call), ``connections``, ``warm`` and ``calls`` (how many), and ``limit``: seconds for all
    measured calls; more is an error, not a longer run. Returned are seconds, per call (a batch is
    one) but for the first.
    """
    job["request"] = http_request(job["port"], job["body"].encode())
    connections = [connect(job["port"]) for _ in range(job["connections"])]
    try:
        connections[0].sendall(job["request"])
        tail = check(finish(connections[0]), job["items"])
        run(job, connections, tail, job["warm"])
        gc.collect()
        gc.disable()
        say({"ready": True})
        if sys.stdin.readline() != "go\n":
            raise Fault("cancelled")
        start = monotonic()
        laps = run(job, connections, tail, job["calls"])
        seconds = monotonic() - start
    finally:
        gc.enable()
        for connection in connections:
            connection.close()
    return {"seconds": seconds, **{name: lap / 1e9 for name, lap in percentiles(laps).items()}}
