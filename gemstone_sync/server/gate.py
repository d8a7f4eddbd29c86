"""The first WSGI layer: health, which hosts and origins may, and where a path goes.

A service on a developer's machine must not be reachable from a web page. Two ways lead there: a
page's own request (it carries a foreign ``Origin``), and DNS rebinding (the page's host name is
made to resolve to 127.0.0.1; the request carries a foreign ``Host``). Both are refused with 403.

Hot path: `Gate.__call__` runs for each request.
"""

from __future__ import annotations

import ipaddress
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..dispatch import CallContext
from ..errors import InvalidRequest
from ..protocol import encode_json
from .body import EarlyAnswer, LimitedBody
from .endpoint import STATUS_LINES, Endpoint
from .forwarded import PROXIED
from .head import FORWARDED

__all__ = [
    "SOFTWARE",
    "Entrance",
    "Gate",
    "GateSettings",
    "Health",
    "is_from_this_machine",
    "is_in_process",
    "is_loopback",
]

#: Fields that show that a request came through a proxy, beside Forwarded and X-Forwarded.
_OF_PROXIES = ("HTTP_VIA", "HTTP_X_REAL_IP")
#: What the framework's own server calls itself.
SOFTWARE = "gemstone_sync"

#: What sends a request without a server: Flask's and Werkzeug's client, WebTest's, httpx's.
_TEST_CLIENTS = {
    ("werkzeug.test", "open"),
    ("webtest.app", "do_request"),
    ("httpx._transports.wsgi", "handle_request"),
}

_HEALTH = "application/health+json"

#: At most this many accepted Host headers are remembered.
_REMEMBERED_HOSTS = 256


class HealthReport(Protocol):
    """An answer to a health path: its word for everybody, and the whole document."""

    @property
    def status(self) -> str:
        """Return ``"pass"``, ``"warn"`` or ``"fail"``."""

    @property
    def details(self) -> dict[str, Any]:
        """Return what those are told who may know more."""


class Health(Protocol):
    """The service's health, as the gate asks for it."""

    def live(self) -> HealthReport:
        """Tell whether the process is worth keeping."""

    def ready(self) -> HealthReport:
        """Tell whether requests should be sent here."""

    def startup(self) -> HealthReport:
        """Tell whether the start is over."""


@dataclass(frozen=True)
class GateSettings:
    """See the attributes of the same names on ``MicroService``.

    :param allowed_hosts: host names without port, in lower case; None for all. ``*.example.org``
        stands for every name below.
    :param allow_loopback: accept any loopback address beside `allowed_hosts`.
    """

    allowed_hosts: frozenset[str] | None
    allow_loopback: bool
    allowed_origins: frozenset[str]
    health_live_path: str | None
    health_ready_path: str | None
    health_startup_path: str | None


class Gate:
    """A WSGI application in front of the Flask app.

    :param flask_wsgi: the Flask app's own WSGI callable.
    :param endpoints: answer their paths without Flask, where `needs_flask` is false; the first is
        the service's own, which tells of refusals.
    :param settings: asked when needed: the address to bind to may be configured after the Flask app
        was made.
    :param needs_flask: true when the user's Flask functions want to see the endpoint's requests.
    """

    def __init__(
        self,
        flask_wsgi: Callable[..., Iterable[bytes]],
        endpoints: Sequence[Endpoint],
        settings: Callable[[], GateSettings],
        health: Health,
        needs_flask: Callable[[], bool],
    ) -> None:
        self._flask_wsgi = flask_wsgi
        self._endpoint = endpoints[0]
        self._endpoints = {each.settings.endpoint: each for each in endpoints}
        self._settings = settings
        now = settings()
        self._needs_flask = needs_flask
        self._health = {
            path: report
            for path, report in (
                (now.health_live_path, health.live),
                (now.health_ready_path, health.ready),
                (now.health_startup_path, health.startup),
            )
            if path is not None
        }
        self._known_hosts: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in self._health:
            return self._answer_health(path, environ, start_response)
        host = environ.get("HTTP_HOST")
        if host is not None and host not in self._known_hosts and not self._is_allowed_host(host):
            return self._forbid(environ, start_response, "This Host is not allowed")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None:
            if not self._is_allowed_origin(origin, host):
                return self._forbid(environ, start_response, "This Origin is not allowed")
            if self._is_listed_origin(origin):
                if (
                    environ["REQUEST_METHOD"] == "OPTIONS"
                    and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
                ):
                    return self._answer_preflight(environ, start_response, origin)
                start_response = self._with_cors(start_response, origin)
        if path in self._endpoints:
            if not self._needs_flask():
                return self._endpoints[path](environ, start_response)
            # Whoever reads it first, a function of the user or the view: within the limit.
            environ["wsgi.input"] = LimitedBody(environ, self._endpoint.settings.max_body_size)
            environ["wsgi.input_terminated"] = True
            environ.pop("HTTP_UPGRADE", None)  # Flask answers 400 where it is no WebSocket's route
        return self._flask_wsgi(environ, start_response)

    # Hosts and origins

    def _is_allowed_host(self, host: str) -> bool:
        settings = self._settings()
        allowed = settings.allowed_hosts
        name = _without_port(host)
        if (
            allowed is None
            or name in allowed
            or (settings.allow_loopback and is_loopback(name))
            or any(name.endswith(pattern[1:]) for pattern in allowed if pattern.startswith("*."))
        ):
            if len(self._known_hosts) < _REMEMBERED_HOSTS:
                self._known_hosts.add(host)
            return True
        return False

    def _is_listed_origin(self, origin: str) -> bool:
        allowed = self._settings().allowed_origins
        return "*" in allowed or origin.lower() in allowed

    def _is_allowed_origin(self, origin: str, host: str | None) -> bool:
        """Tell whether an origin may call: one of the list, or the page's own host."""
        if self._is_listed_origin(origin):
            return True
        return host is not None and origin.partition("://")[2].lower() == host.lower()

    def _cors_headers(self, origin: str) -> list[tuple[str, str]]:
        if "*" in self._settings().allowed_origins:
            return [("Access-Control-Allow-Origin", "*")]
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Vary", "Origin"),
        ]

    def _with_cors(self, start_response: Any, origin: str) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *self._cors_headers(origin)], exc_info)

        return start

    def _answer_preflight(
        self, environ: dict[str, Any], start_response: Any, origin: str
    ) -> Iterable[bytes]:
        """Say what a page may send (Fetch standard, "CORS-preflight fetch")."""
        headers = self._cors_headers(origin)
        headers.append(
            ("Access-Control-Allow-Methods", environ["HTTP_ACCESS_CONTROL_REQUEST_METHOD"])
        )
        if wanted := environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS"):
            headers.append(("Access-Control-Allow-Headers", wanted))
        headers.append(("Access-Control-Max-Age", "600"))
        start_response(STATUS_LINES[204], headers)
        return []

    # Answers of the gate's own

    def _forbid(
        self, environ: dict[str, Any], start_response: Any, message: str
    ) -> Iterable[bytes]:
        no_store = ("Cache-Control", "no-store")
        reply = self._endpoint.refuse(environ, 403, message, no_store, ("Connection", "close"))
        start_response(STATUS_LINES[403], reply.headers)
        return EarlyAnswer(reply.body, environ)

    def _answer_health(
        self, path: str, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            text = self._endpoint.dispatcher.refusal(InvalidRequest("Only GET is answered here"))
            return _send(405, text, environ, start_response, ("Allow", "GET, HEAD"))
        report = self._health[path]()
        # The rest may name a broker and its address.
        told = report.details if self._may_know(environ) else {"status": report.status}
        status = 503 if report.status == "fail" else 200
        return _send(status, encode_json(told), environ, start_response, kind=_HEALTH)

    def _may_know(self, environ: dict[str, Any]) -> bool:
        """Tell details to this machine, and to those whom the service's authentication lets in."""
        if is_from_this_machine(environ):
            return True
        return self._endpoint.dispatcher.lets_in(CallContext(environ))


def is_in_process() -> bool:
    """Tell whether a request comes from a test client of this program, and from no server."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _TEST_CLIENTS:
            return True
        frame = frame.f_back
    return False


class Entrance(Gate):
    """The gate of a service that may not have been started.

    :param enter: called for each request until it returns true.
    """

    def __init__(
        self,
        flask_wsgi: Callable[..., Iterable[bytes]],
        endpoints: Sequence[Endpoint],
        settings: Callable[[], GateSettings],
        health: Health,
        needs_flask: Callable[[], bool],
        enter: Callable[[], bool],
    ) -> None:
        super().__init__(flask_wsgi, endpoints, settings, health, needs_flask)
        self._enter = enter

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._enter():
            if environ.get("SERVER_SOFTWARE") != SOFTWARE and not is_in_process():
                for endpoint in self._endpoints.values():
                    endpoint.use_own_greenlets()
            # Middleware may hold this object: so it changes itself, and no later request pays.
            self.__class__ = Gate  # type: ignore[assignment]
        return Gate.__call__(self, environ, start_response)


def _send(
    status: int,
    text: bytes,
    environ: dict[str, Any],
    start_response: Any,
    *headers: tuple[str, str],
    kind: str = "application/json",
) -> Iterable[bytes]:
    start_response(
        STATUS_LINES[status],
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(text))),
            ("Cache-Control", "no-store"),
            *headers,
        ],
    )
    return EarlyAnswer(text, environ)


def _without_port(host: str) -> str:
    """Return the name of a Host header, in lower case, without port, brackets and zone."""
    if host.startswith("["):
        return host[1:].partition("]")[0].partition("%")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def is_from_this_machine(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request comes from this machine, and not through a proxy on it.

    Such a proxy speaks for anybody. One that is trusted says for whom, in ``REMOTE_ADDR``. So does
    a browser for a page whose name was made to resolve to 127.0.0.1.
    """
    host = _without_port(environ.get("HTTP_HOST", ""))
    if PROXIED in environ or (host and not is_loopback(host)):
        return False
    if environ.get("SERVER_SOFTWARE") != SOFTWARE:
        # Other servers leave it to the application whom to trust.
        if any(name.startswith(FORWARDED) for name in environ):
            return False
    elif "HTTP_X_FORWARDED_FOR" in environ:  # of a trusted one
        return is_loopback(environ.get("REMOTE_ADDR") or "")
    if any(name in environ for name in _OF_PROXIES):
        return False
    return is_loopback(environ.get("REMOTE_ADDR") or "")


def is_loopback(name: str) -> bool:
    """Tell whether a host's name or address is this machine's own."""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
