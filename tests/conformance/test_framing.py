"""What only bytes on a socket can show: chunked bodies, cut ones, refusals before the end.

The same expectations for the service's own server and for gunicorn.
"""

import dataclasses

import pytest

from tests.support import cases
from tests.support.cases import ABSENT, NOTHING, REFUSED, Error, check, check_body, result, way
from tests.support.http import JSON, Connection, chunk, chunked, message

from .calls import call
from .cases_json import LIMIT

CHUNKED = {"Transfer-Encoding": "chunked"}
GOOD = call("subtract", [42, 23])


@dataclasses.dataclass(frozen=True)
class Case(cases.Case):
    """A case whose `sent` is everything that a connection gets.

    :ivar ran: how often `touch` was executed for the case's name.
    :ivar cut: the client ends its half of the connection then.
    :ivar early: answered before the end of the body.
    """

    ran: int = 0
    cut: bool = False
    early: bool = False


@pytest.fixture
def servers(socket, gunicorn_transport):
    return socket, gunicorn_transport


@pytest.fixture(params=["socket", "gunicorn_transport"])
def connection(request):
    with Connection(request.getfixturevalue(request.param).port) as connection:
        yield connection


def post(body, headers=CHUNKED):
    return message("POST", "/api", {**JSON, **headers}, body)


def in_chunks(body, size=10):
    return post(chunked(*(body[start : start + size] for start in range(0, len(body), size))))


def touch(name, size=0, **more):
    """A call of `touch` that is so long."""
    return call("touch", [name], **more).ljust(size)


def check_ran(server, name, times):
    touched = server.send("POST", "/api", JSON, call("touched", [name]))
    check_body(result(times), touched)


WHOLE = [
    *(Case(f"chunks-of-{size}", in_chunks(GOOD, size), result(19)) for size in (1, 7, 1000)),
    Case("chunked-note", in_chunks(touch("chunked-note", id=ABSENT)), NOTHING, 204, ran=1),
    Case("chunked-not-json", in_chunks(b"[" * 100_000, 4096), Error(-32700)),
    Case("chunks-to-limit", in_chunks(touch("chunks-to-limit", LIMIT), 10_000), result(1), ran=1),
]


@cases.every(WHOLE)
def test_a_chunked_body_is_a_body(servers, case):
    for server in servers:
        with way(server.name), Connection(server.port) as connection:
            check(case, connection.exchange(case.sent))
            # The connection stands at the start of the next request, not inside the last chunk.
            check_body(result(19), connection.exchange(post(GOOD, {})))
            check_ran(server, case.name, case.ran)


def _chunk(name, rest):
    """A call of `touch` in one chunk, and the rest of the body."""
    return Case(name, post(chunk(touch(name)) + rest), REFUSED, 400, cut=True)


def _short(name, missing):
    body = touch(name)
    return Case(
        name, post(body, {"Content-Length": str(len(body) + missing)}), REFUSED, 400, cut=True
    )


#: 50 KB at a time, up to the limit and the last chunk missing.
ENDLESS = chunk(touch("chunks-without-end")) + chunk(b" " * 50_000) * (LIMIT // 50_000)

NOT_WHOLE = [
    Case(
        "chunks-over-limit", in_chunks(touch("chunks-over-limit", LIMIT + 1), 10_000), REFUSED, 413
    ),
    Case("chunks-without-end", post(ENDLESS), REFUSED, 413, early=True),
    *(
        Case(f"length-{size}", post(b"", {"Content-Length": str(size)}), REFUSED, 413, early=True)
        for size in (LIMIT + 1, 10**10, 10**18)
    ),
    _short("one-byte-missing", 1),
    _short("1000-bytes-missing", 1000),
    _chunk("no-last-chunk", b""),
    Case("no-end-of-chunk", post(chunk(touch("no-end-of-chunk"))[:-2]), REFUSED, 400, cut=True),
    *(
        _chunk(f"chunk-size-{size.decode()}", size + b"\r\nabcde\r\n0\r\n\r\n")
        for size in (b"xyz", b"-1", b"", b"0x5", b"5 5")
    ),
]


@cases.every(NOT_WHOLE)
def test_a_body_that_is_not_whole_is_refused(servers, case):
    for server in servers:
        with way(server.name), Connection(server.port) as connection:
            connection.send(case.sent)
            if case.cut:
                connection.finish_sending()
            reply = connection.read_reply()
            check(case, reply)
            # gunicorn drops an application's Connection header and reads the rest of the body.
            assert reply.closes or server.name == "gunicorn" or not (case.early or case.cut)
            check_ran(server, case.name, 0)


def test_expect_100_continue_gets_its_interim_answer(connection):
    headers = {"Expect": "100-continue", "Content-Length": str(len(GOOD))}
    connection.send(post(b"", headers))
    assert connection.read_head()[0] == 100
    check_body(result(19), connection.exchange(GOOD))


def test_a_connection_serves_many_requests_of_all_kinds(connection):
    for number in range(30):
        good = connection.exchange(post(call("echo", id=number), {}))
        check_body(result(None, id=number), good)
        for body, expected in ((b"{", Error(-32700)), (b"[]", Error(-32600))):
            reply = connection.exchange(post(body, {}))
            assert not reply.closes
            check_body(expected, reply)


#: Ways to be refused before the body is read: status, verb, more headers.
EARLY_REFUSALS = {
    405: ("PUT", {}),
    403: ("POST", {"Host": "evil.test"}),
    413: ("POST", {}),
    415: ("POST", {"Content-Type": "text/plain"}),
}


@pytest.mark.parametrize("how", [1, 1000, 5000, "chunked"])
@pytest.mark.parametrize("status", EARLY_REFUSALS)
def test_a_refused_body_is_never_a_request_of_its_own(servers, status, how):
    verb, headers = EARLY_REFUSALS[status]
    name = f"inner-{status}-{how}"
    # Whole requests, one after another: wherever the server stops reading, one stands next.
    body = post(touch(name), {}) * (5000 if how == "chunked" else how)
    if status == 413:
        body = body.ljust(LIMIT + 1)
    headers = {**JSON, **headers}
    if how == "chunked":
        headers |= CHUNKED
        body = in_chunks(body, 8192).partition(b"\r\n\r\n")[2]
    for server in servers:
        with way(server.name), Connection(server.port) as connection:
            connection.send(message(verb, "/api", headers, body))
            reply = connection.read_reply()
            assert reply.status == status
            if not reply.closes:
                check_body(result(19), connection.exchange(post(GOOD, {})))
            check_ran(server, name, 0)
