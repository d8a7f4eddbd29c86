"""A case of the table: what is sent to the service under test, and how its body is built."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tests.support.cases import ABSENT, REFUSED, Case
from tests.support.http import JSON

TRANSPORTS = ("in_process", "socket", "gunicorn")
DATA = ["hello", 5]


@dataclasses.dataclass(frozen=True)
class Call(Case):
    """A case whose `sent` is the body.

    :ivar headers: beside JSON's Content-Type, unless they have their own, or `ABSENT`.
    :ivar ran: how often `touch` was executed for the case's name when it is over.
    :ivar over: the transports that can carry it; a comment says why one is left out.
    """

    verb: str = "POST"
    path: str = "/api"
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ran: int | None = None
    over: tuple[str, ...] = TRANSPORTS

    @property
    def all_headers(self) -> dict[str, str]:
        headers = {**JSON, **self.headers}
        return {name: value for name, value in headers.items() if value is not ABSENT}


def never(
    name: str, reply: Any = REFUSED, status: int | tuple[int, ...] = 200, **more: Any
) -> Call:
    """A good call of `touch` that must not be executed."""
    return Call(name, call("touch", [name]), reply, status, ran=0, **more)


def message(method: Any, params: Any = ABSENT, id: Any = 1, **extra: Any) -> dict[str, Any]:
    """A well-formed request object; `id=ABSENT` makes it a notification."""
    members = {"jsonrpc": "2.0", "method": method, "params": params, "id": id} | extra
    return {name: value for name, value in members.items() if value is not ABSENT}


def batch(*items: Any) -> bytes:
    """A batch."""
    return json.dumps(items, ensure_ascii=False).encode()


def call(method: Any, params: Any = ABSENT, id: Any = 1, **extra: Any) -> bytes:
    """The body of a well-formed call."""
    return json.dumps(message(method, params, id, **extra), ensure_ascii=False).encode()


def call_text(method: str, params: str, id: str = "1") -> bytes:
    """A call whose `params` and `id` are JSON text, valid or not."""
    text = f'{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}'
    return text.encode()
