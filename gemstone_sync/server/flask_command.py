"""Teach the ``flask`` command services: ``flask --app module:service routes``.

Flask's command takes the name of an app, or a call, after the colon. It loads the plugins of
``flask.commands`` before the app, so this plugin teaches it services and ``service.app``; and it is
a command of its own, ``flask --app module:service methods``, that lists the exposed methods.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
import types

import click
import flask
import flask.cli

__all__ = ["methods_command"]

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_find_app_by_string = flask.cli.find_app_by_string


@functools.wraps(_find_app_by_string)
def _find_app(module: types.ModuleType, app_name: str) -> flask.Flask:
    if not _DOTTED.fullmatch(app_name.strip()):
        app_of_service = getattr(vars(module).get(app_name.strip()), "app", None)
        if isinstance(app_of_service, flask.Flask):
            return app_of_service
        return _find_app_by_string(module, app_name)
    try:
        app = operator.attrgetter(app_name.strip())(module)
    except AttributeError as error:
        raise flask.cli.NoAppException(f"{module.__name__!r}: {error}") from error
    if not isinstance(app, flask.Flask):
        raise flask.cli.NoAppException(f"'{module.__name__}:{app_name}' is no Flask application")
    return app


flask.cli.find_app_by_string = _find_app


@click.command("methods")
@flask.cli.with_appcontext
def methods_command() -> None:
    """List the JSON-RPC methods of a gemstone_sync service."""
    service = flask.current_app.extensions.get("gemstone_sync")
    if service is None:
        raise click.ClickException("this app is not the app of a gemstone_sync service")
    for name, method in sorted(service.methods.items()):
        click.echo(f"{name}{inspect.signature(method)}")
