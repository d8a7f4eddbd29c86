"""Static directories: files below one folder and nothing else.

Flask's own ``send_from_directory`` stops ``..`` but follows symlinks out of the folder and serves
``.env``; here both are 404, as is everything that is no regular file.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import flask
from flask.typing import ResponseReturnValue

__all__ = ["static_view"]


def static_view(folder: str) -> Callable[[str], ResponseReturnValue]:
    """Make the view that serves the files below `folder`."""
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
