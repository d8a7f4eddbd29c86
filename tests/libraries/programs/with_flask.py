"""Flask's request, session, g and current_app, imported from above."""

import time

from flask import current_app, g, request, session  # noqa: F401


def work(n, service):
    with service.app.test_request_context(f"/?n={n}"):
        g.n = request.args["n"]
        time.sleep(0.3)
        assert current_app.name
        return int(g.n)
