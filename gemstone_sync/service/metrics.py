"""The metrics of a service: the parts of it that are measured, and the page; see `ops.metrics`."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import flask

from ..dispatch import Dispatcher
from ..ops import Metrics, check_installed, chosen_directory, share_metrics
from ..server import Rule, current_worker, open_connections, under_gunicorn
from .base import ServiceBase
from .discovery import DiscoveryRuntime

__all__ = ["metrics_of", "rules_of", "share_with_workers", "watch_calls"]

#: Seconds that a broker or a database has to say how much waits there.
_PATIENCE = 5.0


def metrics_of(service: ServiceBase, discovery: DiscoveryRuntime) -> Metrics:
    """Make the metrics of a service.

    :raises ServiceConfigurationError: when prometheus_client is missing.
    """
    check_installed()
    metrics = Metrics(
        service.name, {"service_version": service.version, "host_name": socket.gethostname()}
    )
    if under_gunicorn() or chosen_directory() is not None:
        share_with_workers()
    elif getattr(sys.modules.get("uwsgi"), "numproc", 1) > 1:
        service.logger.warning(
            "%s: metrics are of each of uWSGI's processes by itself: set PROMETHEUS_MULTIPROC_DIR "
            "to an empty directory",
            service.name,
        )
    discovery.on_ping = metrics.count_ping
    metrics.watch(
        "gemstone_connections", "Connections that are open, at our own server.", open_connections
    )

    def backlog() -> Mapping[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for transport in service.event_transports:
            for queue, count in transport.backlog(_PATIENCE).items():
                found[(queue,)] = found.get((queue,), 0.0) + count
        return found

    if service.event_transports:
        metrics.ask("gemstone_event_backlog", "Events that wait in a queue.", ("queue",), backlog)
    if (outbox := service.outbox) is not None:
        metrics.ask(
            "gemstone_outbox_events",
            "Events that are stored and not sent yet.",
            (),
            lambda: {(): float(outbox.pending())},
        )

        def age() -> Mapping[tuple[str, ...], float]:
            oldest = outbox.oldest()
            return {(): 0.0 if oldest is None else max(0.0, time.time() - oldest)}

        metrics.ask(
            "gemstone_outbox_age_seconds", "How long ago the oldest of them was emitted.", (), age
        )
    if discovery.is_used():
        metrics.ask(
            "gemstone_discovery_endpoints",
            "Endpoints known of other services.",
            ("service",),
            lambda: {(name,): float(count) for name, count in discovery.endpoints().items()},
        )
    return metrics


def watch_calls(metrics: Metrics, dispatcher: Dispatcher) -> None:
    """Measure how many calls run and wait."""
    slots = dispatcher.slots
    metrics.watch("gemstone_calls_in_flight", "Calls that run.", lambda: slots.in_use)
    metrics.watch("gemstone_calls_waiting", "Calls that wait for a place.", lambda: slots.waiting)


def share_with_workers() -> None:
    """Share what is counted with the other workers of the same parent, gunicorn's or our own."""
    worker = current_worker()
    if worker is None:
        share_metrics(os.getpid())
    else:
        share_metrics(worker.ppid, has_counted=worker.cfg.preload_app)


def rules_of(path: str, metrics: Metrics | None) -> list[Rule]:
    """Make the route of the page; none where there are no metrics."""
    if metrics is None:
        return []

    def page() -> Any:
        body, content_type = metrics.page(flask.request.headers.get("Accept"))
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return flask.Response(body, headers=headers)

    return [Rule(path, "gemstone_sync_metrics", page)]
