"""A dispatcher made of functions, with no service and no HTTP around it."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gemstone_sync import MicroService
from gemstone_sync.contract import ParameterBinder
from gemstone_sync.dispatch import CallContext, Dispatcher, DispatchSettings, Hooks, Method
from gemstone_sync.service.assembly import pick


class Handler:
    """The least that the dispatcher asks of a handler: the caller's name as the transport."""

    def __init__(self, context: CallContext) -> None:
        self.context = context
        self.written: Any = None

    @property
    def current_user(self) -> Any:
        return self.context.transport


def method(function: Callable[..., Any], **options: Any) -> Method:
    """The function as an exposed method; options as for `Method`."""
    skip = 1 if options.get("needs_handler") else 0
    binder = ParameterBinder(function, skip=skip)
    return Method(**{"name": function.__name__, "function": function, "binder": binder, **options})


def dispatcher(
    *functions: Callable[..., Any] | Method,
    hooks: Hooks | None = None,
    logger: logging.Logger | None = None,
    **settings: Any,
) -> Dispatcher:
    """A dispatcher that offers the functions; settings as for `DispatchSettings`."""
    methods = [f if isinstance(f, Method) else method(f) for f in functions]
    return Dispatcher(
        {m.name: m for m in methods},
        settings=replace(pick(DispatchSettings, MicroService), **settings),
        make_handler=Handler,
        hooks=hooks,
        logger=logger,
    )


def request(name: str, params: Any = None, id: Any = 1) -> dict[str, Any]:
    """A request object; params are left out when None, and the id when it is `...`."""
    members = {"jsonrpc": "2.0", "method": name, "params": params, "id": id}
    return {k: v for k, v in members.items() if v is not ... and (k, v) != ("params", None)}


def ask(offered: Dispatcher, content: Any, context: CallContext | None = None) -> Any:
    """Dispatch a request object or a batch; the decoded answer, None for none."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = offered.dispatch(body, context or CallContext())
    return None if answer is None else json.loads(answer)


def call(offered: Dispatcher, name: str, *params: Any, context: CallContext | None = None) -> Any:
    """The result of a call, or its error object."""
    answer = ask(offered, request(name, list(params)), context)
    assert answer["id"] == 1
    return answer["result"] if "result" in answer else answer["error"]
