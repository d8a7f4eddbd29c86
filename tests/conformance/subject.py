"""The service under test: every method that a case of the table calls, and nothing else.

`SubjectService` runs in three ways: on its own server, in-process, and under gunicorn, which loads
``tests.conformance.subject:service``. The hints are strings on purpose (the future import below):
that is how most users' hints arrive. What methods refuse and return lives in subject_data.py.
"""

from __future__ import annotations

import hmac
import inspect
import time
from collections import Counter
from typing import Annotated, Any, Literal, Optional

import msgspec

import gemstone_sync

from . import subject_data
from .subject_data import SECRET, TOKEN, Color, Order, Person, Point


class Tools(gemstone_sync.Module):
    """Names with several dots, served from a module."""

    @gemstone_sync.exposed_method("v2.tools.sum_3")
    def sum_three(self, a: int, b: int, c: int) -> int:
        return a + b + c

    @gemstone_sync.exposed_method("deep.er.nested.owner")
    def owner(self) -> str:
        return self.microservice.name


def exposed(methods: type) -> type:
    """Expose every function of a class."""
    for function in filter(inspect.isfunction, vars(methods).values()):
        gemstone_sync.exposed_method()(function)
    return methods


@exposed
class Methods:
    """What the specification calls in its section 7; every kind of signature, then of type hint."""

    def subtract(self, minuend, subtrahend):
        return minuend - subtrahend

    def sum(self, *numbers):
        return sum(numbers)

    def update(self, *values): ...

    def notify_hello(self, value): ...

    def notify_sum(self, *numbers): ...

    def get_data(self):
        return ["hello", 5]

    # Every kind of signature, without hints: only the binding is under test.

    def echo(self, value=None):
        return value

    def echo_args(self, *args):
        return list(args)

    def echo_kwargs(self, **kwargs):
        return kwargs

    def echo_both(self, first, *args, last="z", **kwargs):
        return {"first": first, "args": list(args), "last": last, "kwargs": kwargs}

    def defaults(self, a, b=2, c=None):
        return [a, b, c]

    def positional_only(self, a, b=2, /):
        return [a, b]

    def positional_only_rest(self, a=1, /, **rest):
        return {"a": a, "rest": rest}

    def keyword_only(self, *, width, height=1):
        return [width, height]

    def awkward_names(self, id, method, params, args, kwargs, timeout, context, function):
        return [id, method, params, args, kwargs, timeout, context, function]

    # Every kind of type hint.

    # Optional[...] in two places, because users write both forms.
    def register(self, name: str, age: int, email: Optional[str] = None) -> list[Any]:  # noqa: UP045
        return [name, age, email]

    def scale(self, value: float, times: int = 1) -> float:
        return value * times

    def switch(self, on: bool) -> bool:
        return on

    def pick(self, size: Literal["small", "large"]) -> str:
        return size

    def maybe(self, value: Optional[int]) -> str:  # noqa: UP045
        return repr(value)

    def either(self, value: int | str) -> str:
        return type(value).__name__

    def anything(self, value: Any) -> Any:
        return value

    def place(self, point: Point) -> list[int]:
        return [point.x, point.y]

    def ship(self, order: Order) -> int:
        return sum(item.count for item in order.items)

    def profile(self, person: Person) -> str:
        return f"{person['name']} {person['age']}"

    def level(self, value: Annotated[int, msgspec.Meta(ge=0, le=10)]) -> int:
        return value

    def paint(self, color: Color) -> str:
        return color.name

    def pair(self, value: tuple[int, str]) -> str:
        return type(value).__name__

    def grid(self, rows: list[list[int]], labels: dict[str, int] | None = None) -> int:
        return sum(map(sum, rows))

    def add_all(self, *numbers: int) -> int:
        return sum(numbers)

    def set_limits(self, **limits: int) -> dict[str, int]:
        return limits

    def half_typed(self, a: int, b, *, c: str = "c"):
        return [a, b, c]


class SubjectService(Methods, gemstone_sync.MicroService):
    """All of the above, with state, failures, private methods and small limits."""

    name = "subject"
    host = "127.0.0.1"
    port = 0
    modules = [Tools()]
    # Set, not left to the default, because the default differs under gunicorn.
    allowed_hosts = ("127.0.0.1", "localhost", "subject.test")
    allowed_origins = ("https://friend.test",)
    # Above 100,000 times `{"a":` and a batch of 10,000, yet quick to send at the limit.
    max_body_size = 600_000
    max_response_size = 300_000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._touched: Counter[str] = Counter()

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def with_handler(self, handler, name):
        return [name, handler is not None]

    @gemstone_sync.exposed_method("public.name")
    def python_name(self):
        return "renamed"

    def undecorated(self):
        return "never exposed"

    def _secret_method(self):
        return "never exposed"

    @property
    def explosive_property(self):
        raise AssertionError("a name from the wire was looked up as an attribute")

    @gemstone_sync.exposed_method()
    def touch(self, key: str) -> int:
        """Leave a mark, so that a later call can tell whether this one was executed."""
        self._touched[key] += 1
        return self._touched[key]

    @gemstone_sync.exposed_method()
    def touched(self, key: str) -> int:
        return self._touched[key]

    @gemstone_sync.exposed_method()
    def give(self, kind: str):
        """Return the awkward result of that name."""
        return subject_data.RESULTS[kind]

    @gemstone_sync.exposed_method()
    def refuse(self, kind: str):
        """Raise the `RpcError` of that name."""
        raise subject_data.REFUSALS[kind]()

    @gemstone_sync.exposed_method()
    def fail(self, kind: str, key: str = "unused"):
        """Leave a mark, then raise the unexpected exception of that name."""
        self._touched[key] += 1
        raise subject_data.FAILURES[kind]()

    @gemstone_sync.exposed_method()
    def fail_inside(self, kind: str):
        """Fail in a function that this one calls, so that the traceback is deeper."""
        return subject_data.DEEP_FAILURES[kind]()

    @gemstone_sync.exposed_method()
    def leak(self, marker: str):
        raise RuntimeError(f"{marker}: connection to db://admin:{SECRET}@db failed")

    @gemstone_sync.exposed_method(private=True)
    def vault(self, number: int = 0) -> str:
        return f"vault {number}"

    @gemstone_sync.exposed_method(private=True)
    def private_touch(self, key: str) -> int:
        return self.touch(key)

    def api_token_is_valid(self, token: Any) -> bool:
        # Bytes, because compare_digest raises on text outside ASCII.
        return hmac.compare_digest(str(token).encode("utf-8", "replace"), TOKEN.encode())

    @gemstone_sync.exposed_method(timeout=0.2)
    def oversleep(self, key: str = "unused") -> str:
        time.sleep(30)
        return self.touch(key)

    @gemstone_sync.exposed_method()
    def nap(self, seconds: float, answer: Any = None) -> Any:
        time.sleep(seconds)
        return answer


service = SubjectService()
