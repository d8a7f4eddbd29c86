"""HTTP: the gevent server, the Flask app, and the way of a request between them.

Reading order: `gevent_server` (listening, ending) and `connection` (one socket, over
`channel`) with `head`, `streams` and `response` (HTTP/1.1); then `gate` (which hosts and origins
may, and where a path goes), `endpoint` (the JSON-RPC endpoint), `app` (the Flask factory),
`static`. `prefork` and `gunicorn_worker` run it in several processes, which `stop_signals` end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .app import Rule, WebSettings, make_app
from .asgi import refuse_asgi
from .balance import Balance
from .endpoint import Endpoint, EndpointSettings
from .gate import Gate, GateSettings, Readiness, is_in_process
from .gevent_server import GeventServer, ServerSettings, bind, tls_context
from .gunicorn import (
    before_serving,
    cannot_boot,
    current_worker,
    finish_calls,
    seconds_left,
    under_gunicorn,
)

__all__ = [
    "Balance",
    "Endpoint",
    "EndpointSettings",
    "Gate",
    "GateSettings",
    "GeventServer",
    "GunicornWorker",
    "Readiness",
    "Rule",
    "ServerSettings",
    "WebSettings",
    "before_serving",
    "bind",
    "cannot_boot",
    "current_worker",
    "finish_calls",
    "is_in_process",
    "make_app",
    "refuse_asgi",
    "seconds_left",
    "tls_context",
    "under_gunicorn",
]


if TYPE_CHECKING:
    from .gunicorn_worker import GunicornWorker
else:

    def __getattr__(name: str) -> Any:
        if name == "GunicornWorker":  # imported by gunicorn only: it needs gunicorn's modules
            from .gunicorn_worker import GunicornWorker

            return GunicornWorker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
