"""WSGI conformance: wsgiref's validator stands between the server and the application."""

from wsgiref.validate import validator

import pytest

from .app import Application
from .case import ABC, CHUNKED
from .harness import ask, check_next, connected, send, served


@pytest.fixture(scope="module")
def validated():
    """The application behind wsgiref's validator, which checks both sides."""
    application = Application()
    with served(validator(application)) as server:
        yield server, application


@pytest.mark.parametrize(
    "sent",
    [
        ask("/x?a=b"),
        ask("/", method="HEAD"),
        ask("/%C3%A9%20", method="DELETE"),
        send("/x", b"a body", b"Content-Type: text/plain"),
        ask("/x", CHUNKED, method="POST", body=ABC),
        ask("/x", version="1.0"),
        ask("http://b.example/x"),
        ask("/lines", CHUNKED, method="PUT", body=b"2\r\na\n\r\n0\r\n\r\n"),
        ask("/lines?by-iteration", b"Content-Length: 4", method="PUT", body=b"a\nb\n"),
        ask("/stream"),
        ask("/stream", method="HEAD"),
        ask("/stream-with-length"),
        ask("/written"),
        ask("/large?100000"),
        ask("/late-start"),
        ask("/nothing"),
        ask("/replaces-answer"),
        send("/unread", b"abc"),
    ],
    ids=lambda sent: sent.partition(b" HTTP")[0].decode(),
)
def test_the_validator_finds_nothing(validated, sent):
    server, application = validated
    with connected(server) as client:
        assert client.exchange(sent).status in (200, 503)
        if b"HTTP/1.0" not in sent:
            check_next(client)
    assert not application.failures


def test_the_validator_is_there(validated, errors):
    """A body of str is one of the things that it refuses."""
    server, _ = validated
    with connected(server) as client:
        client.send(ask("/text-as-body"))
        client.read_to_end()
    assert any("AssertionError" in message for message in errors.take())
