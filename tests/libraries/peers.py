"""What the programs talk to, where no server of the machine will do: a process of its own.

Run as a program it prints the ports as JSON, and the name of a queue. Each peer lets whoever asks
wait for 0.3 s, several at once, and is left out where the library that it speaks with is not
installed.
"""

import contextlib
import importlib.util
import json
import os
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECONDS = 0.3


class Web(BaseHTTPRequestHandler):
    """Answers ``/…/7`` with ``{"n": 7}``: a web page, S3's objects, documents of Elasticsearch."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(SECONDS)
        n = int(self.path.partition("?")[0].rpartition("/")[2])
        document = {"_index": "numbers", "_id": str(n), "found": True, "_source": {"n": n}}
        body = json.dumps(document if "/_doc/" in self.path else {"n": n}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nobody reads it."""


class Mongo(socketserver.StreamRequestHandler):
    """Speaks OP_MSG: greetings at once; a search finds the document that it asks for."""

    def handle(self) -> None:
        import bson

        while head := self.rfile.read(16):
            length, request, _, code = struct.unpack("<4i", head)
            body = self.rfile.read(length - 16)
            assert code == 2013, f"not OP_MSG: {code}"
            asked = bson.decode(body[5:])
            flags = struct.pack("<IB", 0, 0)
            answer = flags + bson.encode({**self._answer(asked), "ok": 1.0})
            self.wfile.write(struct.pack("<4i", 16 + len(answer), 0, request, 2013) + answer)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "find" in asked:
            time.sleep(SECONDS)
            return {"cursor": {"id": 0, "ns": "test.numbers", "firstBatch": [asked["filter"]]}}
        return {
            "isWritablePrimary": True,
            "helloOk": True,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
        }


def serve_grpc() -> int:
    import grpc

    def slow(request: bytes, context: Any) -> bytes:
        time.sleep(SECONDS)
        return request

    def several(request: bytes, context: Any) -> Iterator[bytes]:
        for _ in range(3):
            time.sleep(SECONDS / 3)
            yield request

    handlers = {
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Several": grpc.unary_stream_rpc_method_handler(several),
    }
    server = grpc.server(futures.ThreadPoolExecutor(20))
    handler = grpc.method_handlers_generic_handler("numbers.Numbers", handlers)
    server.add_generic_rpc_handlers((handler,))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _kept.append(server)
    return port


_kept: list[Any] = []


def work_for_celery(name: str) -> None:
    """Take tasks from Redis and store twice their number, as a worker of Celery's would."""
    import celery
    import kombu

    url = "redis://127.0.0.1:6379/9"
    app = celery.Celery("tests", broker=url, backend=url)

    def store(body: Any, message: Any) -> None:
        message.ack()
        result = (message.headers["id"], 2 * body[0][0], "SUCCESS")
        threading.Timer(SECONDS, app.backend.store_result, result).start()

    with app.connection_for_read() as connection:
        queue = kombu.Queue(name)
        with connection.Consumer([queue], callbacks=[store], accept=["json"]):
            while True:
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=1)


def main() -> None:
    web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    ports: dict[str, Any] = {"web": web.server_port}
    if importlib.util.find_spec("bson"):
        socketserver.ThreadingTCPServer.daemon_threads = True
        mongo = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mongo)
        threading.Thread(target=mongo.serve_forever, daemon=True).start()
        ports["mongo"] = mongo.server_address[1]
    if importlib.util.find_spec("grpc"):
        ports["grpc"] = serve_grpc()
    if importlib.util.find_spec("celery"):
        # Of this process of the tests: what another one's peer takes as it is killed is lost.
        ports["celery"] = f"gemstone-sync-tests-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
        threading.Thread(target=work_for_celery, args=[ports["celery"]], daemon=True).start()
    print(json.dumps(ports), flush=True)
    sys.stdin.read()  # until whoever has started it ends


@contextlib.contextmanager
def peers() -> Iterator[str]:
    """Run them; their ports, as JSON."""
    command = [sys.executable, __file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline()  # type: ignore[union-attr]
        finally:
            process.kill()


if __name__ == "__main__":
    main()
