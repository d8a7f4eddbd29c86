"""A notebook: web pages beside the JSON-RPC endpoint, in one service.

The pages are Flask's: views, templates, blueprints, static files. Their paths start at this file.
"""

from __future__ import annotations

from datetime import datetime, timezone

import flask
import flask.views
import gemstone_sync

from help_pages import help_pages


class NotebookPage(gemstone_sync.GemstoneCustomHandler):
    """The page at /: a view that knows its service."""

    microservice: NotebookService

    def get(self) -> str:
        return flask.render_template("notebook.html", notes=self.microservice.notes)


class Clock(flask.views.MethodView):
    """Any view of Flask will do, too."""

    def get(self) -> dict[str, str]:
        return {"time": datetime.now(timezone.utc).isoformat(timespec="seconds")}


class NotebookService(gemstone_sync.MicroService):
    name = "notebook"
    template_dir = "templates"
    static_dirs = [("/static", "static")]
    extra_handlers = [("/", NotebookPage), ("/clock", Clock)]
    blueprints = [help_pages]

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    @gemstone_sync.exposed_method("notes.add")
    def add_note(self, text: str) -> list[str]:
        """Add a note; returns all of them."""
        self.notes.append(text)
        return self.notes

    @gemstone_sync.route("/notes.txt")
    def download(self) -> flask.Response:
        """Every note on a line of its own: a method as a view."""
        return flask.Response("".join(f"{note}\n" for note in self.notes), mimetype="text/plain")


if __name__ == "__main__":
    NotebookService().start()
