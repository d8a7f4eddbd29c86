"""HTTP: the gevent server, the Flask app, and the way of a request between them.

Reading order: `gevent_server` (listening, ending) and `connection` (one socket) with `head`,
`streams` and `response` (HTTP/1.1); then `gate` (which hosts and origins may, and where a path
goes), `endpoint` (the JSON-RPC endpoint), `app` (the Flask factory), `static`.
"""

from .app import Rule, WebSettings, make_app
from .endpoint import Endpoint, EndpointSettings
from .gate import Gate, GateSettings, Readiness
from .gevent_server import GeventServer, ServerSettings, bind
from .gunicorn import current_worker, under_gunicorn

__all__ = [
    "Endpoint",
    "EndpointSettings",
    "Gate",
    "GateSettings",
    "GeventServer",
    "Readiness",
    "Rule",
    "ServerSettings",
    "WebSettings",
    "bind",
    "current_worker",
    "make_app",
    "under_gunicorn",
]
