"""A blueprint: pages that could be part of any Flask application."""

from __future__ import annotations

import flask

help_pages = flask.Blueprint("help", __name__, url_prefix="/help")


@help_pages.get("/")
def index() -> str:
    return flask.render_template("help.html")
