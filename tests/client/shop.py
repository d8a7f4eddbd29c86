"""The service that most tests of this folder call."""

from typing import Any, Literal

from gevent.event import Event

import gemstone_sync
from gemstone_sync import UNSET, MicroService, RpcError
from tests.support.waiting import LIMIT


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"

    def __init__(self, article: str = "?") -> None:
        super().__init__(data={"article": article})


class Shop(MicroService):
    name = "shop"
    max_response_size = 100_000
    max_batch_size = 50

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.go_on = Event()

    @gemstone_sync.exposed_method()
    def echo(self, value: Any = "nothing") -> Any:
        self.calls.append(value)
        return value

    @gemstone_sync.exposed_method("users.login")
    def login(self, name: str, password: str = "secret") -> str:
        return f"{name}:{password}"

    @gemstone_sync.exposed_method()
    def keywords(self, self_: int = 0, name: int = 0, args: int = 0, kwargs: int = 0) -> list[int]:
        return [self_, name, args, kwargs]

    @gemstone_sync.exposed_method()
    def buy(self, article: str, size: Literal["S", "L"] = "S") -> None:
        raise OutOfStock(article)

    @gemstone_sync.exposed_method()
    def fail(self, code: int, data: Any = UNSET) -> None:
        raise RpcError("as asked", code=code, data=data)

    @gemstone_sync.exposed_method()
    def crash(self) -> None:
        raise LookupError("a secret of the service")

    @gemstone_sync.exposed_method(private=True)
    def private(self) -> None: ...

    @gemstone_sync.exposed_method(timeout=0.05)
    def dawdle(self) -> None:
        self.go_on.wait(LIMIT)

    @gemstone_sync.exposed_method()
    def hold(self) -> str:
        self.calls.append("hold")
        self.go_on.wait(LIMIT)
        return "held"

    @gemstone_sync.exposed_method()
    def long_text(self) -> str:
        return "x" * 200_000

    def api_token_is_valid(self, api_token: str) -> bool:
        return False
