"""Serve HTTP: the gevent server, the Flask app, and the way of a request between them.

A request's way, one direction and no back and forth: `gevent_server` accepts, and `connection`
reads it from its `client_socket`: the `head`, the body (`streams`); then `gate` (which hosts and
origins may, and where a path goes), `endpoint` (the JSON-RPC endpoint) or `app` (the Flask app);
then the `response`, or the `upgrade` to another protocol. What connections share sits in `state`.
`prefork` and `gunicorn_worker` run it in several `processes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .app import Rule, WebSettings, make_app, refuse_asgi
from .endpoint import Endpoint, EndpointSettings, Reply
from .gate import (
    SOFTWARE,
    Gate,
    GateSettings,
    Health,
    is_from_this_machine,
    is_in_process,
    is_loopback,
)
from .gevent_server import GeventServer, bind, tls_context
from .gunicorn import (
    before_serving,
    cannot_boot,
    current_worker,
    finish_calls,
    seconds_left,
    under_gunicorn,
)
from .prefork import Balance
from .state import ServerSettings, open_connections

__all__ = [
    "SOFTWARE",
    "Balance",
    "Endpoint",
    "EndpointSettings",
    "Gate",
    "GateSettings",
    "GeventServer",
    "GunicornWorker",
    "Health",
    "Reply",
    "Rule",
    "ServerSettings",
    "WebSettings",
    "before_serving",
    "bind",
    "cannot_boot",
    "current_worker",
    "finish_calls",
    "is_in_process",
    "is_from_this_machine",
    "is_loopback",
    "make_app",
    "open_connections",
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
