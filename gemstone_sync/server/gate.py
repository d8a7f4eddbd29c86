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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..dispatch import CallContext
from ..errors import InvalidRequest
from ..protocol import encode_json
from .body import EarlyAnswer, LimitedBody
from .endpoint import STATUS_LINES, Endpoint

__all__ = ["SOFTWARE", "Entrance", "Gate", "GateSettings", "Readiness", "is_in_process"]

#: What the framework's own server calls itself.
SOFTWARE = "gemstone_sync"

#: What sends a request without a server: Flask's and Werkzeug's client, WebTest's, httpx's.
_TEST_CLIENTS = {
    ("werkzeug.test", "open"),
    ("webtest.app", "do_request"),
    ("httpx._transports.wsgi", "handle_request"),
}

#: At most this many accepted Host headers are remembered.
_REMEMBERED_HOSTS = 256


class Readiness(Protocol):
    """What the gate asks about the service's life."""

    def why_not_live(self) -> str | None:
        """None while the process is worth keeping."""

    def why_not_ready(self) -> str | None:
        """None while requests should be sent here."""


@dataclass(frozen=True)
class GateSettings:
    """See the attributes of the same names on ``MicroService``.

    :param allowed_hosts: host names without port, in lower case; None for all. ``*.example.org``
        stands for every name below.
    :param allow_loopback: accept any loopback address beside `allowed_hosts`.
    """

    allowed_hosts: frozenset[str] | None = None
    allow_loopback: bool = False
    allowed_origins: frozenset[str] = frozenset()
    health_live_path: str | None = "/health/live"
    health_ready_path: str | None = "/health/ready"


class Gate:
    """A WSGI application in front of the Flask app.

    :param flask_wsgi: the Flask app's own WSGI callable.
    :param endpoint: answers the endpoint's path without Flask, where `needs_flask` is false.
    :param settings: asked when needed: the address to bind to may be configured after the Flask app
        was made.
    :param needs_flask: true when the user's Flask functions want to see the endpoint's requests.
    """

    def __init__(
        self,
        flask_wsgi: Callable[..., Iterable[bytes]],
        endpoint: Endpoint,
        settings: Callable[[], GateSettings],
        readiness: Readiness,
        needs_flask: Callable[[], bool],
    ) -> None:
        self._flask_wsgi = flask_wsgi
        self._endpoint = endpoint
        self._path = endpoint.settings.endpoint
        self._settings = settings
        now = settings()
        self._needs_flask = needs_flask
        self._health = {
            path: why_not
            for path, why_not in (
                (now.health_live_path, readiness.why_not_live),
                (now.health_ready_path, readiness.why_not_ready),
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
        if path == self._path:
            if not self._needs_flask():
                return self._endpoint(environ, start_response)
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
            or (settings.allow_loopback and _is_loopback(name))
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
        """The page's own host is no foreign origin: it was served from here."""
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
        """Fetch standard, "CORS-preflight fetch": say what the page may send."""
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
        reason = self._health[path]()
        if reason is None:
            return _send(200, b'{"status":"ok"}', environ, start_response)
        # It may name a broker and its address.
        details = {"reason": reason} if self._may_know(environ) else {}
        text = encode_json({"status": "unavailable", **details})
        return _send(503, text, environ, start_response)

    def _may_know(self, environ: dict[str, Any]) -> bool:
        """Details are for this machine, and for whom the service's authentication lets in."""
        if _is_loopback(environ.get("REMOTE_ADDR") or ""):
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
        endpoint: Endpoint,
        settings: Callable[[], GateSettings],
        readiness: Readiness,
        needs_flask: Callable[[], bool],
        enter: Callable[[], bool],
    ) -> None:
        super().__init__(flask_wsgi, endpoint, settings, readiness, needs_flask)
        self._enter = enter

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._enter():
            if environ.get("SERVER_SOFTWARE") != SOFTWARE and not is_in_process():
                self._endpoint.use_own_greenlets()
            # Middleware may hold this object: so it changes itself, and no later request pays.
            self.__class__ = Gate  # type: ignore[assignment]
        return Gate.__call__(self, environ, start_response)


def _send(
    status: int,
    text: bytes,
    environ: dict[str, Any],
    start_response: Any,
    *headers: tuple[str, str],
) -> Iterable[bytes]:
    start_response(
        STATUS_LINES[status],
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(text))),
            ("Cache-Control", "no-store"),
            *headers,
        ],
    )
    return EarlyAnswer(text, environ)


def _without_port(host: str) -> str:
    """The name of a Host header, in lower case, without port, brackets and zone."""
    if host.startswith("["):
        return host[1:].partition("]")[0].partition("%")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
