"""The table: every case gets the same reply over every transport."""

import importlib
import json
import re

import pytest

from tests.support.cases import ABSENT, check, check_body, difference, every, masked, result, way
from tests.support.http import JSON

from .calls import TRANSPORTS, call
from .subject_data import SECRET

CASES = [
    case
    for idea in (
        *("spec", "ids", "names", "params", "hints", "json"),
        *("batch", "results", "auth", "http", "origins"),
    )
    for case in importlib.import_module(f"{__package__}.cases_{idea}").CASES
]
#: max_response_size of the service under test, and room for a batch of errors beyond it.
MAX_REPLY = 300_000 + 20_000


@pytest.fixture
def transports(in_process, socket, gunicorn_transport, gunicorn_program):
    start = len(gunicorn_program.stderr)
    yield dict(zip(TRANSPORTS, (in_process, socket, gunicorn_transport), strict=True))
    print(gunicorn_program.stderr[start:][-4000:])  # shown when the test fails


def post(transport, body):
    return transport.send("POST", "/api", JSON, body)


@every(CASES)
def test_case(transports, case):
    for name in case.over:
        with way(name):
            check_case(case, transports[name])


def check_case(case, transport):
    reply = transport.send(case.verb, case.path, case.all_headers, case.sent)
    check(case, reply)
    assert len(reply.body) <= MAX_REPLY
    for leaked in (SECRET.encode(), b"Traceback", b"site-packages"):
        assert leaked not in reply.body, reply.body[:600]
    if case.ran is not None:
        check_body(result(case.ran), post(transport, call("touched", [case.name])))
    # Whatever the case was, the service still answers a plain call.
    check_body(result(19, id="after"), post(transport, call("subtract", [42, 23], id="after")))


def test_a_secret_is_in_the_log_and_not_in_the_reply(transports, caplog, gunicorn_program):
    for name, transport in transports.items():
        marker = f"marker-{name}"
        reply = post(transport, call("leak", [marker], id=1))
        with way(name):
            assert SECRET.encode() not in reply.body
            assert marker.encode() not in reply.body
            answer = json.loads(reply.body)
            assert not difference(masked(), answer)
            text = gunicorn_program.stderr if name == "gunicorn" else caplog.text
            shown = re.escape(SECRET) if name != "gunicorn" else r"\*+"  # by our own log's lines
            assert re.search(f"{marker}: connection to db://admin:{shown}@db failed", text)
            assert re.search(r'File ".*subject.py", line \d+, in leak', text), "no traceback"
            assert answer["error"]["data"]["error_id"] in text
            assert post(transport, call("leak", [marker], id=ABSENT)).body == b""


def test_every_failure_has_an_error_id_of_its_own(transports):
    body = call("fail", ["runtime_error"])
    for name, transport in transports.items():
        replies = [json.loads(post(transport, body).body) for _ in range(20)]
        assert len({reply["error"]["data"]["error_id"] for reply in replies}) == 20, name
