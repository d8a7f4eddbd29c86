"""The attackers: a program that opens many connections which do not behave.

    attack.py PORT KIND=COUNT … [--seconds S]

Kinds: ``silent`` (says nothing), ``head`` (sends a head byte by byte), ``idle`` (makes one call,
keeps the connection), ``body`` (announces a body, sends it byte by byte), ``huge`` (announces a
body of 100 MB and waits for what is said to that). One process, standard library, 127.0.0.1 only.
It prints a line (JSON) when all are open, one when the server has ended them all or the seconds are
over, and stops then. A closed standard input stops it at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds between two bytes of those that drip.
DRIP = 0.5
CALL = b'{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}'
HEAD = b"POST /api HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

#: What each kind sends at once, and what it drips afterwards.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "head": (HEAD[:20], HEAD[20:] + b"X-Filler: " + b"x" * 1000),
    "idle": (HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(CALL), CALL), b""),
    "huge": (HEAD + b"Content-Length: 100000000\r\n\r\n", b""),
    "body": (HEAD + b"Content-Length: 1000\r\n\r\n" + CALL[:1], CALL[1:] + b" " * 900),
}


@dataclass
class Attacker:
    """One connection. `answered` and `ended`: when the server did so, in seconds since `opened`."""

    kind: str
    socket: socket.socket
    opened: float
    drip: bytes
    received: bytes = b""
    answered: float | None = None
    ended: float | None = None


def tell(**message: object) -> None:
    print(json.dumps(message), flush=True)


def open_all(port: int, counts: dict[str, int]) -> list[Attacker]:
    """Open the connections, the kinds mixed, and send what each sends at once."""
    turns = [
        kind
        for number in range(max(counts.values()))
        for kind, count in counts.items()
        if number < count
    ]
    attackers = []
    for kind in turns:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        first, drip = KINDS[kind]
        connection.sendall(first)
        connection.setblocking(False)
        attackers.append(Attacker(kind, connection, time.monotonic(), drip))
    return attackers


def end(attacker: Attacker, selector: selectors.BaseSelector) -> None:
    attacker.ended = time.monotonic() - attacker.opened
    selector.unregister(attacker.socket)
    attacker.socket.close()


def read(attacker: Attacker, selector: selectors.BaseSelector) -> None:
    """Take what the server says; the end of the connection ends the attacker."""
    try:
        received = attacker.socket.recv(65536)
    except BlockingIOError:
        return
    except OSError:
        received = b""
    if received:
        if attacker.answered is None:
            attacker.answered = time.monotonic() - attacker.opened
        attacker.received += received
    else:
        end(attacker, selector)


def send_next(attacker: Attacker, selector: selectors.BaseSelector) -> None:
    try:
        attacker.socket.send(attacker.drip[:1])
        attacker.drip = attacker.drip[1:]
    except BlockingIOError:
        pass
    except OSError:
        end(attacker, selector)


def attack(attackers: list[Attacker], seconds: float, told_to_stop: Callable[[], bool]) -> None:
    """Drip and listen until the server has ended them all, or the time is over."""
    finish = time.monotonic() + seconds
    due = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for attacker in attackers:
            selector.register(attacker.socket, selectors.EVENT_READ, attacker)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while len(selector.get_map()) > 1 and time.monotonic() < finish:
            for key, _ in selector.select(max(0.0, min(due, finish) - time.monotonic())):
                if key.data is None:
                    if told_to_stop():
                        return
                else:
                    read(key.data, selector)
            if time.monotonic() >= due:
                due += DRIP
                for attacker in attackers:
                    if attacker.ended is None and attacker.drip:
                        send_next(attacker, selector)


def summary(attackers: list[Attacker]) -> dict[str, dict[str, object]]:
    """By kind: how many, how many the server ended; the slowest answer; the statuses."""
    found: dict[str, dict[str, object]] = {}
    for kind in KINDS:
        mine = [attacker for attacker in attackers if attacker.kind == kind]
        if mine:
            ends = [attacker.ended for attacker in mine if attacker.ended is not None]
            statuses = sorted({attacker.received[9:12].decode() for attacker in mine})
            found[kind] = {
                "opened": len(mine),
                "ended": len(ends),
                "answered": max((a.answered for a in mine if a.answered is not None), default=None),
                "first": min(ends, default=None),
                "last": max(ends, default=None),
                "statuses": statuses,
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("kinds", nargs="+", metavar="KIND=COUNT")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    counts = {
        kind: int(count) for kind, _, count in (word.partition("=") for word in options.kinds)
    }
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = sum(counts.values()) + 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    began = time.monotonic()
    attackers = open_all(options.port, counts)
    tell(opened=len(attackers), seconds=time.monotonic() - began)
    attack(attackers, options.seconds, lambda: not sys.stdin.readline())
    tell(kinds=summary(attackers), seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
