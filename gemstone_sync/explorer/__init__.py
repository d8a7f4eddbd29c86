"""The explorer, on which people read a service and try it, and the status page.

`static/` holds the pages as a browser gets them: HTML, CSS and JavaScript modules, written by hand;
`static/app.js` says in which order to read the explorer's, `static/status.js` is the status page.
`files` hands them out. Nothing here knows a service: the pages read its documents, call its methods
or ask for its status, as any other client. What serves them is in ``service/explorer.py`` and
``service/status.py``.
"""

from .files import HEADERS, Answer, Files

__all__ = ["HEADERS", "Answer", "Files"]
