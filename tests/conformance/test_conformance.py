"""The table, every case over every transport with the same expectations."""

import dataclasses
import json
import re

import pytest

from .case import JSON, call, check, check_reply
from .cases import CASES
from .matchers import Masked, difference, result
from .subject_data import SECRET

FIXTURES = {"socket": "socket", "in_process": "in_process", "gunicorn": "gunicorn_transport"}

TABLE = [
    pytest.param(transport, case, id=f"{transport}-{case.name}")
    for transport in FIXTURES
    for case in CASES
    if transport in case.transports
]


@dataclasses.dataclass(frozen=True)
class Link:
    """A transport and how to make a plain call over it."""

    transport: object
    log: object

    def post(self, body):
        return self.transport.send("POST", "/api", JSON, body)


@pytest.fixture
def link(transport, request):
    """The transport of that name; gunicorn's log is shown when the test fails."""
    log = request.getfixturevalue("gunicorn_log") if transport == "gunicorn" else None
    start = log.stat().st_size if log is not None and log.exists() else 0
    yield Link(request.getfixturevalue(FIXTURES[transport]), log)
    if log is not None:
        with log.open("rb") as lines:
            lines.seek(start)
            print(lines.read().decode("utf-8", "replace")[-4000:])


@pytest.mark.parametrize(("transport", "case"), TABLE)
def test_case(link, case):
    check(case, link.transport.send(case.verb, case.path, case.headers, case.body))
    if case.effect is not None:
        check_reply(case.effect.reply, link.post(case.effect.body))
    # Whatever the case was, the service still answers a plain call.
    check_reply(result(19, id="after"), link.post(call("subtract", [42, 23], id="after")))


@pytest.mark.parametrize("transport", FIXTURES)
@pytest.mark.parametrize(("method", "note"), [("leak", False), ("leak", True)])
def test_a_secret_is_in_the_log_and_not_in_the_reply(link, transport, method, note, caplog):
    marker = f"marker-{transport}-{note}"
    body = {"jsonrpc": "2.0", "method": method, "params": [marker], "id": 1}
    if note:
        del body["id"]
    reply = link.post(json.dumps(body).encode())
    assert SECRET.encode() not in reply.body
    assert marker.encode() not in reply.body
    text = link.log.read_text() if link.log is not None else caplog.text
    assert f"{marker}: connection to db://admin:{SECRET}@db failed" in text
    assert re.search(r'File ".*subject.py", line \d+, in leak', text), "no traceback in the log"
    if note:
        assert reply.body == b""
    else:
        answer = json.loads(reply.body)
        assert not difference(Masked(), answer)
        assert answer["error"]["data"]["error_id"] in text


@pytest.mark.parametrize("transport", FIXTURES)
def test_every_failure_has_an_error_id_of_its_own(link):
    body = call("fail", ["runtime_error"])
    seen = {json.loads(link.post(body).body)["error"]["data"]["error_id"] for _ in range(20)}
    assert len(seen) == 20


def test_the_table_is_large_and_has_no_case_twice():
    assert len(CASES) >= 220
    names = [case.name for case in CASES]
    assert sorted(names) == sorted(set(names))
    # Effects apart, two cases must not send the same thing.
    sent = [(case.verb, case.path, tuple(case.headers.items()), case.body) for case in CASES]
    twice = [case.name for case, one in zip(CASES, sent, strict=True) if sent.count(one) > 1]
    assert twice == []
