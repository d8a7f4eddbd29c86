"""The limit: a gevent socket loop that sends one fixed HTTP response per chunk received.

It parses nothing, so no server on a gevent loop can spend less CPU on a call. Not a peer to use, a
floor to measure against. Port from BENCH_PORT.
"""

import os
import socket

from gevent.server import StreamServer

BODY = b'{"jsonrpc":"2.0","result":3,"id":1}'
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY


def handle(connection: socket.socket, _address: tuple[str, int]) -> None:
    """Answer every chunk until the client closes; the load generator's requests are one each."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while connection.recv(65536):
        connection.sendall(RESPONSE)


if __name__ == "__main__":
    StreamServer(("127.0.0.1", int(os.environ["BENCH_PORT"])), handle).serve_forever()
