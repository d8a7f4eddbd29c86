"""What a case of the table is, how its body is built and how a reply is held against it.

The cases themselves are in cases_*.py; how a request travels is in transports.py.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from .matchers import ABSENT, ANY_BODY, NOTHING, difference
from .subject_data import SECRET

JSON = {"Content-Type": "application/json"}
#: max_response_size of the service under test, and room for a batch of errors beyond it.
MAX_REPLY = 300_000 + 20_000
EVERY_TRANSPORT = ("socket", "in_process", "gunicorn")


@dataclasses.dataclass(frozen=True)
class Effect:
    """A plain call made after the case, to see what the case has done or not done."""

    body: bytes
    reply: Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One request and the one reply that every transport must give.

    `status` may be several where the decisions leave a choice. `reply_headers` maps a header to
    its value, a matcher, or `ABSENT`. `why` is the reason when `transports` leaves one out.
    """

    name: str
    body: bytes
    reply: Any
    status: int | tuple[int, ...] = 200
    verb: str = "POST"
    path: str = "/api"
    headers: Mapping[str, str] = dataclasses.field(default_factory=lambda: JSON)
    reply_headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    effect: Effect | None = None
    transports: tuple[str, ...] = EVERY_TRANSPORT
    why: str = ""

    def __post_init__(self) -> None:
        if self.transports != EVERY_TRANSPORT and not self.why:
            raise ValueError(f"case {self.name} leaves a transport out without saying why")


def call(method: Any, params: Any = ABSENT, id: Any = 1, **extra: Any) -> bytes:
    """The body of a well-formed call; `id=ABSENT` makes it a notification."""
    return encode(message(method, params, id, **extra))


def message(method: Any, params: Any = ABSENT, id: Any = 1, **extra: Any) -> dict[str, Any]:
    """The request object of `call`, for a batch."""
    members = {"jsonrpc": "2.0", "method": method, "params": params, "id": id} | extra
    return {name: value for name, value in members.items() if value is not ABSENT}


def call_text(method: str, params: str, id: str = "1") -> bytes:
    """A call whose `params` and `id` are JSON text, valid or not."""
    text = f'{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}'
    return text.encode()


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def executed(key: str, times: int) -> Effect:
    """`touch(key)` was executed so many times."""
    return Effect(call("touched", [key]), {"jsonrpc": "2.0", "result": times, "id": 1})


def check(case: Case, reply: Any) -> None:
    """Fail, saying where the reply differs from what the case expects."""
    statuses = case.status if isinstance(case.status, tuple) else (case.status,)
    shown = f"{reply.status} {dict(reply.headers)} {reply.body[:600]!r}"
    assert reply.status in statuses, f"expected status {case.status}, got {shown}"
    for name, expected in case.reply_headers.items():
        got = reply.headers.get(name, ABSENT)
        same = expected is got if expected is ABSENT else not difference(expected, got, name)
        assert same, f"expected header {name}: {expected!r}, got {got!r} in {shown}"
    check_reply(case.reply, reply, shown)


def check_reply(expected: Any, reply: Any, shown: str = "") -> None:
    """The body is the one expected, and well-formed whatever it is."""
    shown = shown or f"{reply.status} {reply.body[:600]!r}"
    assert len(reply.body) <= MAX_REPLY, f"{len(reply.body)} bytes in {shown}"
    for leaked in (SECRET.encode(), b"Traceback", b"site-packages"):
        assert leaked not in reply.body, f"{leaked!r} leaks in {shown}"
    if expected is ANY_BODY:
        return
    if expected is NOTHING:
        assert reply.body == b"", f"expected no body, got {shown}"
        return
    if isinstance(expected, bytes):
        assert reply.body == expected, f"expected the bytes {expected!r}, got {shown}"
        return
    kind = reply.headers.get("Content-Type", "")
    assert kind.split(";")[0].strip() == "application/json", f"content type {kind!r} in {shown}"
    wrong = difference(expected, decode(reply.body, shown))
    assert not wrong, f"{wrong}\nin {shown}"


def decode(body: bytes, shown: str = "") -> Any:
    """The JSON value of a reply, with the strictness and the member order of the decisions."""

    def refuse(text: str) -> Any:
        raise AssertionError(f"{text} is not JSON: {shown}")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), f"a member stands twice: {shown}"
        return dict(pairs)

    value = json.loads(body.decode("utf-8"), parse_constant=refuse, object_pairs_hook=members)
    for response in value if isinstance(value, list) else [value]:
        _check_shape(response, shown)
    return value


def _check_shape(response: Any, shown: str) -> None:
    orders = (["jsonrpc", "result", "id"], ["jsonrpc", "error", "id"])
    assert list(response) in orders, f"members {list(response)} in {shown}"
    if "error" in response:
        order = list(response["error"])
        assert order in (["code", "message"], ["code", "message", "data"]), f"{order} in {shown}"
