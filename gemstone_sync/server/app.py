"""Make the Flask app of a service: the endpoint as a route, extra routes, files, templates."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flask
import jinja2
from flask.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    got_request_exception,
    request_finished,
    request_started,
    request_tearing_down,
)
from flask.typing import ResponseReturnValue, RouteCallable
from werkzeug.exceptions import default_exceptions

from ..errors import ServiceConfigurationError
from .endpoint import Endpoint, Reply
from .gate import Entrance, GateSettings, Health

__all__ = ["Rule", "WebSettings", "make_app", "refuse_asgi"]

_NO_ASGI = (
    "gemstone_sync services speak WSGI: start uvicorn with --interface wsgi, or use "
    "gunicorn -k gemstone_sync.server.GunicornWorker"
)


@dataclass(frozen=True)
class Rule:
    """Describe a route: a Flask rule, its endpoint name, the view, options of ``add_url_rule``."""

    rule: str
    name: str
    view: RouteCallable
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WebSettings:
    """Describe the web application beside the endpoint.

    :param import_name: the module of the service class.
    :param root_path: the folder of its file.
    :param template_dir: absolute path.
    :param static_dirs: (URL prefix, absolute path) pairs.
    """

    import_name: str
    root_path: str
    template_dir: str
    static_dirs: tuple[tuple[str, str], ...]
    rules: tuple[Rule, ...]
    blueprints: tuple[flask.Blueprint, ...]
    secret_key: str | bytes | None
    max_body_size: int


def make_app(
    web: WebSettings,
    endpoints: Sequence[Endpoint],
    gate: Callable[[], GateSettings],
    health: Health,
    enter: Callable[[], bool],
) -> flask.Flask:
    """Build the app; its ``wsgi_app`` starts with the gate.

    :param endpoints: the JSON-RPC endpoint, then those of other protocols.
    :param enter: see `Entrance`.
    """

    class App(flask.Flask):  # here, where instrumentation has put its own in the place of Flask's
        def __call__(self, environ: Any, start_response: Any = None) -> Any:
            if start_response is None:
                return refuse_asgi(environ)
            return super().__call__(environ, start_response)

    # Flask itself would look for the module, which may be none that can be imported.
    app = App(web.import_name, root_path=web.root_path, static_folder=None, template_folder=None)
    app.jinja_loader = jinja2.FileSystemLoader(web.template_dir)
    app.config["MAX_CONTENT_LENGTH"] = web.max_body_size
    if web.secret_key is not None:
        app.config["SECRET_KEY"] = web.secret_key
    for endpoint in endpoints:
        path, name, view = endpoint.settings.endpoint, endpoint.name, _endpoint_view(endpoint)
        # The endpoint itself answers whatever verb comes; add_url_rule wants a list of them.
        app.url_map.add(app.url_rule_class(path, endpoint=name))
        app.add_url_rule(path, name, view, methods=["POST"], provide_automatic_options=False)
    for number, (url, folder) in enumerate(web.static_dirs):
        rule = f"{url.rstrip('/')}/<path:filename>"
        app.add_url_rule(rule, f"static_{number}" if number else "static", _static_view(folder))
    for extra in web.rules:
        app.add_url_rule(extra.rule, extra.name, extra.view, **extra.options)
    for blueprint in web.blueprints:
        app.register_blueprint(blueprint)
    _refuse_taken_rules(app, endpoints, gate())
    app.wsgi_app = Entrance(  # type: ignore[method-assign]
        app.wsgi_app, endpoints, gate, health, _user_functions_of(app), enter
    )
    return app


def _refuse_taken_rules(
    app: flask.Flask, endpoints: Sequence[Endpoint], gate: GateSettings
) -> None:
    own = {endpoint.settings.endpoint: endpoint.name for endpoint in endpoints}
    health = {gate.health_live_path, gate.health_ready_path, gate.health_startup_path}
    if len(own) < len(endpoints) or health & {*own}:
        raise ServiceConfigurationError(
            f"{', '.join(e.settings.endpoint for e in endpoints)}: one path for two things"
        )
    for rule in app.url_map.iter_rules():
        if rule.rule in health or own.get(rule.rule, rule.endpoint) != rule.endpoint:
            raise ServiceConfigurationError(f"{rule.rule} is taken by the service itself")


_SIGNALS = (
    request_started,
    request_finished,
    request_tearing_down,
    appcontext_pushed,
    appcontext_popped,
    appcontext_tearing_down,
    got_request_exception,
)


def _user_functions_of(app: flask.Flask) -> Callable[[], bool]:
    """Make the function that tells whether Flask functions of the user want to see every request.

    Hot path: asked for each request, because they may be registered at any time before the first.
    """
    before, after = app.before_request_funcs, app.after_request_funcs
    teardown, preprocess = app.teardown_request_funcs, app.url_value_preprocessors
    # All of them change in place.
    others = (app.teardown_appcontext_funcs, *(signal.receivers for signal in _SIGNALS))
    error_handlers = app.error_handler_spec

    def any_function() -> bool:
        if None in before or None in after or None in teardown or None in preprocess or any(others):
            return True
        # Flask leaves empty entries here whenever it looks for a handler.
        return None in error_handlers and any(error_handlers[None].values())

    return any_function


def _endpoint_view(endpoint: Endpoint) -> Callable[[], ResponseReturnValue]:
    def jsonrpc() -> ResponseReturnValue:
        request = flask.request
        reply = endpoint.respond(request.environ, request.get_data)
        response = _flask_response(reply)
        if reply.status in default_exceptions:
            # Raised, so that an error handler of the user sees it.
            raise default_exceptions[reply.status](response=response)
        return response

    return jsonrpc


def _flask_response(reply: Reply) -> flask.Response:
    headers: Iterable[tuple[str, str]] = reply.headers
    response = flask.Response(reply.body, status=reply.status)
    response.headers.clear()  # the reply has its own
    response.headers.extend(headers)
    return response


def _static_view(folder: str) -> Callable[[str], ResponseReturnValue]:
    """Make the view that serves the files below `folder`, and nothing else.

    Flask's own ``send_from_directory`` stops ``..`` but follows symlinks out of the folder and
    serves ``.env``; here both are 404, as is everything that is no regular file.
    """
    root = os.path.realpath(folder)

    def serve(filename: str) -> ResponseReturnValue:
        parts = filename.split("/")
        if "\0" in filename or "\\" in filename or any(part.startswith(".") for part in parts):
            flask.abort(404)
        path = os.path.realpath(os.path.join(root, *parts))
        if os.path.commonpath([root, path]) != root or not os.path.isfile(path):
            flask.abort(404)
        return flask.send_file(path, conditional=True)

    return serve


def refuse_asgi(scope: Any) -> Callable[[Any, Any], Coroutine[Any, Any, None]]:
    """Make what ends an ASGI server that starts a WSGI application, with one line.

    uvicorn and daphne take what is no coroutine function for an application of ASGI 2, which they
    call with one argument.
    """

    async def refuse(receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            raise ServiceConfigurationError(_NO_ASGI)
        await receive()
        await send({"type": "lifespan.startup.failed", "message": _NO_ASGI})

    return refuse
