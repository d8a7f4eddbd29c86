"""``Expect: 100-continue``: one 100, and only before the answer (RFC 9110, section 10.1.1)."""

import socket
from urllib.parse import urlsplit

import flask
import pytest

from gemstone_sync import MicroService, route
from gemstone_sync.testing import running_service
from tests.support.waiting import LIMIT


class Early(MicroService):
    name = "early"
    skip_configuration = True

    @route("/early", methods=["POST"])
    def early(self):
        def pieces():
            yield b"first"
            yield flask.request.stream.read()

        return flask.Response(flask.stream_with_context(pieces()))

    @route("/late", methods=["POST"])
    def late(self):
        return flask.request.stream.read(1) + flask.request.stream.read()


@pytest.mark.parametrize(("path", "told"), [("early", 0), ("late", 1)])
def test_an_answer_that_has_begun_is_not_interrupted(path, told):
    with (
        running_service(Early) as service,
        socket.create_connection(("127.0.0.1", urlsplit(service.url).port), LIMIT) as client,
    ):
        client.sendall(
            f"POST /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode()
        )
        received = client.recv(65536)
        client.sendall(b"abc")
        while piece := client.recv(65536):
            received += piece

    assert received.count(b"100 Continue") == told
    assert b"abc" in received.split(b"200 OK")[1]
