"""The status page: what a service is at, in all of its workers together.

There are files that tell nothing of the service, and the JSON that the page shows. Both, and 401
for whom the service's own authentication does not let in, are at ``status_path``; see
`StatusPage.document`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flask
import gevent
from gevent import monkey

from ..broker_urls import without_passwords
from ..concurrency import USER_FAULTS
from ..config.redaction import redacted
from ..dispatch import CallContext, Dispatcher
from ..explorer import HEADERS, Files
from ..ops import Health, Observer, Siblings, Status, text_of, together
from ..ops.health import FAIL, PASS, WARN
from ..protocol import decode_json, encode_json
from ..server import Rule
from .base import ServiceBase
from .discovery import DiscoveryRuntime
from .explorer import send_file, tokens_of
from .periodic_tasks import PeriodicTasks

__all__ = ["StatusPage"]

#: Seconds for which the answers of brokers, databases and health checks are kept.
_KEPT = 5.0
#: Seconds that a page waits for them: one that takes longer is on a later page. And that another
#: worker's waits for the first look at this one's health.
_PATIENCE, _MOMENT = 1.0, 0.3
#: Errors and calls in flight of all workers together.
_ERRORS, _IN_FLIGHT = 50, 200
#: Events that an outbox cannot send are counted up to so many.
_REFUSED = 1000


#: What is told of each worker by itself.
_OF_WORKER = (
    *("pid", "state", "uptime", "lag", "running", "waiting", "places", "held_by", "held_for"),
    "health",
)

_WORST = (PASS, WARN, FAIL)


class _Parts(Protocol):
    """Those parts of a service that the page tells of."""

    @property
    def dispatcher(self) -> Dispatcher: ...

    @property
    def periodic(self) -> PeriodicTasks: ...

    @property
    def health(self) -> Health: ...

    @property
    def discovery(self) -> DiscoveryRuntime: ...


class StatusPage:
    """The status page of one service; there is none unless `status_page` is set.

    :param parts: gives the service's parts, which are made when first needed.
    """

    def __init__(self, service: ServiceBase, parts: Callable[[], _Parts]) -> None:
        self._service = service
        self._parts = parts
        self._status = Status(self._masked)
        self._secrets: dict[str, frozenset[str]] = {}
        self._siblings = Siblings(f"status of {service.name}", self._answer_sibling)
        self._configuration: list[Mapping[str, str]] | None = None
        self._questions = {
            "health": _Question(self._health),
            "events": _Question(self._events),
            "outbox": _Question(self._outbox),
        }

    @property
    def observer(self) -> Observer:
        """The observer of the service's calls and events."""
        return self._status

    def start(self, *, has_siblings: bool) -> None:
        """Begin to answer other workers.

        :param has_siblings: there are others of the same parent.
        """
        self._status.start()
        self._loop = gevent.get_hub().loop
        if not has_siblings:
            return
        try:
            self._siblings.join(os.getppid())
        except OSError as error:
            self._service.logger.error("the status page is of each worker by itself: %s", error)

    def stop(self) -> None:
        """Answer no more."""
        self._siblings.leave()

    # What is told

    def _own(self) -> dict[str, Any]:
        """Tell of this process; in any thread, while something holds the hub too."""
        parts, service = self._parts(), self._service
        return {
            "pid": os.getpid(),
            "state": service.lifecycle.state.value,
            **self._status.as_dict(parts.dispatcher.slots),
            "periodic": parts.periodic.runs(),
            "registries": [each.as_dict() for each in parts.discovery.components()],
            "health": self._questions["health"].latest,
        }

    def _answer_sibling(self) -> bytes:
        """Tell another worker of this one: in a native thread, so the hub is only asked to look."""
        health = self._questions["health"]
        self._loop.run_callback_threadsafe(health.begin)
        end = time.monotonic() + _MOMENT
        while health.latest["time"] is None and time.monotonic() < end:
            monkey.get_original("time", "sleep")(0.01)
        return _written(self._own())

    def document(self) -> dict[str, Any]:
        """Tell everything.

        Times are seconds since 1970, durations seconds, and what is not known is None::

            {"name", "version", "time",
             "status": "pass", "warn" or "fail": the worst of all workers' health,
             "workers": [{"pid", "answers", "state", "uptime", "lag", "running", "waiting",
                          "places", "held_by", "held_for",
                          "health": {"value": as of the health paths, "failure", "time"}}],
             "methods": [{"name", "calls", "errors", "refused", "max", "p50", "p95", "p99",
                          "minute": {"calls", "errors", "per_second", "p50", "p95", "p99"}}],
             "in_flight": [{"pid", "method" or "handler", "request_id", "age", "waits_for",
                            "stack": ["burn at /srv/shop.py:12"]}],
             "errors": [{"pid", "time", "times", "method" or "handler", "code", "error_id",
                         "request_id", "error", "text", "traceback", "arguments"}],
             "handlers": as methods,
             "blocks": [{"pid", "time", "text"}],
             "periodic": [{"pid", "name", "every", "running", "next", "last", "seconds",
                           "failure"}],
             "registries": [{"pid", "componentId", "status", "time", "output"}],
             "events": {"value": {"backlog": {queue: events that wait},
                                  "dead_letters": {queue: dead letters}}, "failure", "time"},
             "outbox": {"value": {"pending", "oldest", "refused"} or None, "failure", "time"},
             "configuration": [{"name", "value", "source"}]}

        In flight the oldest come first, of errors and blocks the newest. A worker that does not
        answer has nothing but its pid.
        """
        for question in self._questions.values():
            question.begin()
        answers = self._siblings.ask()
        until = time.monotonic() + _PATIENCE
        for question in self._questions.values():
            question.wait(until)
        mine = self._own()
        told = [mine, *(json.loads(each) for each in answers.values() if each is not None)]
        told.sort(key=lambda each: each["pid"])
        silent = [pid for pid, each in answers.items() if each is None]
        workers = [{**{name: each[name] for name in _OF_WORKER}, "answers": True} for each in told]
        return {
            "name": self._service.name,
            "version": self._service.version,
            "time": time.time(),
            "status": "fail" if silent else max(map(_status_of, told), key=_WORST.index),
            "workers": [*workers, *({"pid": pid, "answers": False} for pid in silent)],
            "methods": together(each["methods"] for each in told),
            "in_flight": _all(told, "in_flight", lambda each: -each["age"])[:_IN_FLIGHT],
            "errors": _all(told, "errors", lambda each: -each["time"])[:_ERRORS],
            "handlers": together(each["handlers"] for each in told),
            "blocks": _all(told, "blocks", lambda each: -each["time"]),
            "periodic": _all(told, "periodic", lambda each: (each["name"], each["every"])),
            "registries": _all(told, "registries", lambda each: each["componentId"]),
            **{name: self._questions[name].latest for name in ("events", "outbox")},
            "configuration": self._settings(),
        }

    def _masked(self, method: str, params: Any) -> Any:
        """Return params without secrets: by their names, and by what the method's hints say."""
        binder = self._parts().dispatcher.methods[method].binder
        if method not in self._secrets:
            # Most services write no document, and never load what writes them.
            from ..contract.secrets import secret_names

            self._secrets[method] = secret_names(binder)
        secrets = self._secrets[method]
        if not isinstance(params, list):
            return redacted(params, secrets)
        names = [each.name for each in binder.parameters][: len(params)]
        named = redacted(dict(zip(names, params, strict=False)), secrets)
        return [*named.values(), *redacted(params[len(names) :], secrets)]

    def _settings(self) -> list[Mapping[str, str]]:
        if self._configuration is None:
            settings = self._service.get_settings()  # type: ignore[attr-defined]
            self._configuration = [setting._asdict() for setting in settings]
        return self._configuration

    def _health(self) -> Any:
        return decode_json(encode_json(self._parts().health.ready().details))

    def _events(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {"backlog": {}, "dead_letters": {}}
        for transport in self._service.event_transports:
            dead = getattr(getattr(transport, "topology", None), "dead", None)
            for queue, count in transport.backlog(_PATIENCE).items():
                queues = found["dead_letters" if queue == dead else "backlog"]
                queues[queue] = queues.get(queue, 0) + count
        return found

    def _outbox(self) -> dict[str, Any] | None:
        outbox = self._service.outbox
        if outbox is None:
            return None
        refused = len(outbox.refused(limit=_REFUSED))
        return {"pending": outbox.pending(), "oldest": outbox.oldest(), "refused": refused}

    # Over HTTP

    def rules(self) -> list[Rule]:
        """Make the routes of the page."""
        path, name = self._service.status_path, "gemstone_sync_status"
        folder = path if path.endswith("/") else f"{path}/"
        self._files = Files("status.html", path.rpartition("/")[2])
        return [
            Rule(path, name, self._page),
            Rule(f"{folder}<version>/<name>", f"{name}_file", self._file),
        ]

    def _page(self) -> flask.Response:
        types = flask.request.accept_mimetypes
        wants_page = types.best_match(["text/html", "application/json"]) != "application/json"
        lets_in = self._parts().dispatcher.lets_in(CallContext(flask.request.environ))
        tokens = [] if lets_in else tokens_of(self._service)
        if wants_page:
            response = send_file(self._files.page, whole=not lets_in)  # it asks for what is missing
        else:
            told = self.document() if lets_in else {"tokens": tokens}
            response = flask.Response(_written(told), content_type="application/json")
            response.headers.update(HEADERS)
        response.vary.add("Accept")
        if not (wants_page and lets_in):
            response.headers["Cache-Control"] = "no-store"
        if not lets_in:
            response.status_code = 401
            kinds = {each["kind"] for each in tokens}
            if "bearer" in kinds:
                response.headers["WWW-Authenticate"] = "Bearer"
            elif "basic" in kinds and wants_page:  # a browser would ask in the page's place, too
                response.headers["WWW-Authenticate"] = 'Basic realm="status", charset="UTF-8"'
        return response

    def _file(self, version: str, name: str) -> flask.Response:
        found = self._files.file(version, name)
        return flask.abort(404) if found is None else send_file(found)


class _Question:
    """Asks for something that may wait; its answer is kept for a while."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._asked_at = -_KEPT
        self._running: gevent.Greenlet[..., None] | None = None
        #: The newest answer; nothing but None before the first.
        self.latest: dict[str, Any] = {"value": None, "failure": None, "time": None}

    def begin(self) -> None:
        """Ask, if that is due and nobody is at it."""
        now = time.monotonic()
        if now - self._asked_at >= _KEPT and (self._running is None or self._running.ready()):
            self._asked_at = now
            self._running = gevent.spawn(self._run)

    def _run(self) -> None:
        value = failure = None
        try:
            value = self._ask()
        except USER_FAULTS as error:
            failure = without_passwords(f"{type(error).__name__}: {text_of(error)}")
        self.latest = {"value": value, "failure": failure, "time": time.time()}

    def wait(self, until: float) -> None:
        """Wait for an answer that is due, until a moment of ``time.monotonic()``."""
        if self._running is not None:
            self._running.join(max(0.0, until - time.monotonic()))


def _status_of(told: Mapping[str, Any]) -> str:
    """Return the word for a worker's health; it passes until it has been looked at."""
    health = told["health"]
    if health["time"] is None:
        return PASS
    return FAIL if health["value"] is None else str(health["value"]["status"])


def _all(told: list[dict[str, Any]], name: str, order: Callable[[Any], Any]) -> list[Any]:
    """Put together what workers tell of one thing, each with whose it is."""
    # Reversed: of those of one moment the newest comes first too.
    found = ({"pid": e["pid"], **each} for e in told for each in reversed(e[name]))
    return sorted(found, key=order)


def _written(value: Any) -> bytes:
    """Write JSON that may hold lone surrogates, as names of files and exceptions do."""
    return json.dumps(value).encode()
