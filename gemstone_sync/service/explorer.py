"""The explorer as a service serves it: who may see it, and what the page asks for.

There is no second way in: what the page wants to know or do of events are methods of the
framework's own (``rpc.explorer.…``), which go through the endpoint, its gate and its authentication
as every call does. Over HTTP there are files that tell nothing of the service, and the downloads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flask

from ..contract.binding import Arguments, ParameterBinder
from ..contract.model import Contract
from ..dispatch import CallContext, Dispatcher, Method
from ..errors import AccessDenied, MethodNotFound, Unset
from ..event.handlers import Handler
from ..explorer import HEADERS, Answer, Files
from ..ops import overrides
from ..server import (
    SOFTWARE,
    Rule,
    is_from_this_machine,
    is_in_process,
    is_loopback,
    under_gunicorn,
)
from ..version import __version__
from .auth import (
    BasicAuthStrategy,
    BasicCookieStrategy,
    BearerTokenStrategy,
    HeaderValidationStrategy,
)
from .base import ServiceBase
from .contracts import Documents, calling_context
from .explorer_events import Handled, dead_letters, emit, replay, stores_of
from .threads import WorkerThreads

__all__ = ["Explorer", "send_file", "tell_of_pages", "tokens_of"]

#: Seconds for what the page asks of brokers.
_PATIENCE = 30.0


class _Parts(Protocol):
    """Those parts of a service that the page may ask of."""

    @property
    def dispatcher(self) -> Dispatcher: ...

    @property
    def event_handlers(self) -> tuple[Handler, ...]: ...


class _AskedFirst(ParameterBinder):
    """Binds the parameters of a call that may be: whoever may not make it learns nothing of them.

    :param check: raises when it may not.
    """

    def __init__(self, function: Callable[..., Any], check: Callable[[], None]) -> None:
        super().__init__(function)
        self._check = check

    def bind(self, params: list[Any] | dict[str, Any] | Unset) -> Arguments:
        """Bind and validate, after asking."""
        self._check()
        return super().bind(params)


class Explorer:
    """The explorer of one service.

    :param parts: gives the service's parts, which are made when first needed.
    :param executor: runs what computes for long.
    """

    def __init__(
        self,
        service: ServiceBase,
        parts: Callable[[], _Parts],
        documents: Documents,
        executor: WorkerThreads,
    ) -> None:
        self._service = service
        self._parts = parts
        self._documents = documents
        self._executor = executor
        self.handled = Handled() if service.explorer == "private" else None

    # Who may

    def _is_on(self, context: CallContext | None) -> bool:
        setting = self._service.explorer
        if setting is not None:
            return setting is not False
        if not is_on_by_default(self._service):
            return False
        environ = None if context is None else context.transport
        if not isinstance(environ, dict):
            return True
        # What another server has bound to, nobody knows; and a proxy speaks for anybody.
        return (environ.get("SERVER_SOFTWARE") == SOFTWARE or is_in_process()) and (
            self._service.debug or is_from_this_machine(environ)
        )

    def _lets_in(self, context: CallContext | None) -> bool:
        return context is None or self._parts().dispatcher.lets_in(context)

    def _check(self, *, private: bool = False) -> None:
        """Refuse a call of the page's that may not be.

        :param private: asks for what is told in private only.
        :raises MethodNotFound: where there is no explorer, or none that tells it.
        :raises AccessDenied: with where a token may stand.
        """
        context = calling_context()
        is_private = self._service.explorer == "private"
        if not self._is_on(context) or (private and not is_private):
            raise MethodNotFound()
        if is_private and not self._lets_in(context):
            raise AccessDenied(data={"tokens": tokens_of(self._service)})

    def _check_emitting(self) -> None:
        self._check()
        if not self._may_emit():
            raise MethodNotFound()

    # Methods

    def methods(self) -> list[Method]:
        """Make the methods that the page calls; where there is no explorer, they are not found."""
        private = functools.partial(self._check, private=True)
        return [
            Method(
                f"rpc.explorer.{name}", function, _AskedFirst(function, check), timeout=_PATIENCE
            )
            for name, function, check in (
                ("about", self._about, self._check),
                ("emit", self._emit, self._check_emitting),
                ("handled", self._handled, private),
                ("dead_letters", self._dead_letters, private),
                ("replay", self._replay, private),
            )
        ]

    def _about(self) -> dict[str, Any]:
        """Tell the page what it may show beyond the documents."""
        is_private = self._service.explorer == "private"
        return {
            "tokens": tokens_of(self._service),
            "may_emit": self._may_emit(),
            "handled": is_private and bool(self._parts().event_handlers),
            "dead_letters": is_private and bool(stores_of(self._service)),
            "max_batch_size": self._service.max_batch_size,
        }

    def _may_emit(self) -> bool:
        return self._service.explorer_may_emit and bool(self._service.event_transports)

    def _emit(self, name: str, body: Any, broadcast: bool = True) -> str:
        """Emit an event that the service emits or handles; return its id."""
        return emit(self._service, self._parts().event_handlers, name, body, broadcast)

    def _handled(self) -> list[dict[str, Any]]:
        """List the newest events that this process has handled."""
        return [] if self.handled is None else self.handled.newest()

    def _dead_letters(self) -> list[Mapping[str, Any]]:
        """List the dead letters of the service's transports and of its outbox."""
        return dead_letters(self._service)

    def _replay(self, store: str, id: str) -> int:
        """Put a dead letter back to where it came from; return how many had that id."""
        return replay(self._service, store, id)

    # Over HTTP

    def rules(self) -> list[Rule]:
        """Make the routes of the page, below the endpoint."""
        docs = f"{self._service.endpoint.rstrip('/')}/docs"
        name = "gemstone_sync_explorer"
        downloads = {"client.py": self._python, "client.ts": self._typescript}
        downloads["contract.md"] = self._markdown
        return [
            Rule(docs, name, self._page),
            Rule(f"{docs}/", f"{name}_slash", self._without_slash),
            Rule(f"{docs}/<version>/<name>", f"{name}_file", self._file),
            *(
                Rule(f"{docs}/{file}", f"{name}_{file.replace('.', '_')}", view)
                for file, view in downloads.items()
            ),
        ]

    @functools.cached_property
    def _files(self) -> Files:
        return Files(slash="/" if self._service.endpoint.endswith("/") else "")

    def _enter(self) -> CallContext:
        context = CallContext(flask.request.environ)
        if not self._is_on(context):
            flask.abort(404)
        return context

    def _page(self) -> flask.Response:
        self._enter()
        return send_file(self._files.page)

    def _without_slash(self) -> flask.Response:
        self._enter()
        # Relative: what a proxy puts before it is known to the browser only.
        return flask.Response(status=308, headers={"Location": "../docs", **HEADERS})

    def _file(self, version: str, name: str) -> flask.Response:
        self._enter()
        found = self._files.file(version, name)
        return flask.abort(404) if found is None else send_file(found)

    def _python(self) -> flask.Response:
        from ..contract.clients import python_client

        return self._download("text/x-python", lambda c: python_client(c, __version__))

    def _typescript(self) -> flask.Response:
        from ..contract.clients import typescript_client

        return self._download("text/x-typescript", lambda c: typescript_client(c, __version__))

    def _markdown(self) -> flask.Response:
        from ..contract.markdown import to_markdown

        return self._download("text/markdown", to_markdown)

    def _download(self, kind: str, write: Callable[[Contract], str]) -> flask.Response:
        context = self._enter()
        if self._service.explorer == "private" and not self._lets_in(context):
            flask.abort(401)

        def written(contract: Contract) -> bytes:
            # A client of thousands of methods takes seconds: other calls go on meanwhile.
            text = self._executor.executor().submit(write, contract).result()
            return text.encode("utf-8", "replace")

        response = self._documents.respond(kind, kind, written)
        response.headers.update(HEADERS)
        if self._service.explorer == "private":
            response.headers["Cache-Control"] = "private, no-cache"
        return response


def is_on_by_default(service: ServiceBase) -> bool:
    """Tell whether a service that says nothing of it has an explorer on our own server."""
    if service.debug:
        return True
    return is_loopback(service.host) and not under_gunicorn() and not service.trusted_proxies


def tokens_of(service: ServiceBase) -> list[dict[str, str]]:
    """Tell where a service looks for a token, as far as it is known."""
    found = []
    for strategy in service.validation_strategies:
        if isinstance(strategy, HeaderValidationStrategy):
            found.append({"kind": "header", "name": strategy.header})
        elif isinstance(strategy, BearerTokenStrategy):
            found.append({"kind": "bearer", "name": "Authorization"})
        elif isinstance(strategy, BasicAuthStrategy):
            found.append({"kind": "basic", "name": "Authorization"})
        elif isinstance(strategy, BasicCookieStrategy):
            found.append({"kind": "cookie", "name": strategy.cookie})
    return found


def tell_of_pages(service: ServiceBase, *urls: str) -> None:
    """Log where the explorer and the status page are, if there are, and if they let nobody in.

    :param urls: of the endpoint.
    """
    closed = []
    if service.status_page:
        places = ", ".join(url.removesuffix(service.endpoint) + service.status_path for url in urls)
        service.logger.info("%s shows its status at %s", service.name, places)
        closed.append("status_page = True")
    if _tell_of_explorer(service, urls):
        closed.append('explorer = "private"')
    if closed and not overrides(service, ServiceBase, "authenticate_request", "api_token_is_valid"):
        service.logger.warning(
            "%s lets nobody in: override authenticate_request(handler)", " or ".join(closed)
        )


def _tell_of_explorer(service: ServiceBase, urls: tuple[str, ...]) -> bool:
    """Log where the explorer is; tell whether it is private."""
    setting = service.explorer
    if setting is False or (setting is None and not is_on_by_default(service)):
        return False
    places = ", ".join(f"{url.rstrip('/')}/docs" for url in urls)
    service.logger.info("%s shows itself at %s", service.name, places)
    return setting == "private"


def send_file(answer: Answer, *, whole: bool = False) -> flask.Response:
    """Make the response with a file of a page.

    :param whole: also for a browser that has it already.
    """
    request = flask.request
    gzipped = request.accept_encodings["gzip"] > 0
    response = flask.Response(answer.gzipped if gzipped else answer.body)
    response.headers.update(HEADERS)
    response.headers["Content-Type"] = answer.content_type
    response.headers["Cache-Control"] = answer.cache_control
    response.headers["Vary"] = "Accept-Encoding"
    if gzipped:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(f"{answer.tag}-gzip" if gzipped else answer.tag)
    if not whole:
        response.make_conditional(request)
    return response
