"""The attackers: a program that opens many connections which do not behave.

    attack.py PORT KIND=COUNT … [--until ENDED]

Kinds: ``silent`` (says nothing), ``head`` (sends a head byte by byte), ``idle`` (makes one call,
keeps the connection), ``body`` (announces a body, sends it byte by byte), ``huge`` (announces a
body of 100 MB and waits for what is said to that). One process, standard library, 127.0.0.1 only.
It prints a line (JSON) when all are open, one when the server has ended them all, or as many as it
is told, and stops then; or at once when its standard input is closed.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import socket
import sys
import time
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
    """One connection."""

    kind: str
    socket: socket.socket
    drip: bytes
    received: bytes = b""
    ended: bool = False

    def read(self) -> None:
        """Take what the server says; the end of the connection ends the attacker."""
        try:
            received = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self.received += received
        self.ended = not received

    def send_next(self) -> None:
        try:
            self.socket.send(self.drip[:1])
            self.drip = self.drip[1:]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True


def open_all(port: int, counts: dict[str, int]) -> list[Attacker]:
    """Open the connections, the kinds mixed, and send what each sends at once."""
    turns = [kind for n in range(max(counts.values())) for kind in counts if n < counts[kind]]
    attackers = []
    for kind in turns:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        first, drip = KINDS[kind]
        connection.sendall(first)
        connection.setblocking(False)
        attackers.append(Attacker(kind, connection, drip))
    return attackers


def attack(attackers: list[Attacker], until: int) -> None:
    """Drip and listen until the server has ended so many, or standard input is closed."""
    due = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for attacker in attackers:
            selector.register(attacker.socket, selectors.EVENT_READ, attacker)
        while len(attackers) - (len(selector.get_map()) - 1) < until:
            touched = [key.data for key, _ in selector.select(max(0.0, due - time.monotonic()))]
            if None in touched:
                return
            for attacker in touched:
                attacker.read()
            if time.monotonic() >= due:
                due += DRIP
                touched = [key.data for key in selector.get_map().values() if key.data is not None]
                for attacker in touched:
                    if attacker.drip and not attacker.ended:
                        attacker.send_next()
            for attacker in touched:
                if attacker.ended:
                    selector.unregister(attacker.socket)
                    attacker.socket.close()


def summary(attackers: list[Attacker]) -> dict[str, dict[str, object]]:
    """By kind: how many, how many the server ended, the statuses."""
    found = {}
    for kind in sorted({attacker.kind for attacker in attackers}):
        mine = [attacker for attacker in attackers if attacker.kind == kind]
        found[kind] = {
            "opened": len(mine),
            "ended": sum(attacker.ended for attacker in mine),
            "statuses": sorted({attacker.received[9:12].decode() for attacker in mine}),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("kinds", nargs="+", metavar="KIND=COUNT")
    parser.add_argument("--until", type=int)
    options = parser.parse_args()
    counts = {kind: int(n) for kind, _, n in (word.partition("=") for word in options.kinds)}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(sum(counts.values()) + 50, hard), hard))
    attackers = open_all(options.port, counts)
    print(json.dumps({"opened": len(attackers)}), flush=True)
    attack(attackers, options.until or len(attackers))
    print(json.dumps({"kinds": summary(attackers)}), flush=True)


if __name__ == "__main__":
    main()
