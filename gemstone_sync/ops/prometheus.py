"""Everything that touches prometheus_client: users' metrics in shared files, and the page.

Under several workers prometheus_client itself wants a directory in the environment before it is
imported, and keeps the files of every process that has ended. Here its values are put into our own
store instead (`metrics_files`), those too that were made before anybody knew of other workers. A
program that sets PROMETHEUS_MULTIPROC_DIR has chosen prometheus_client's way: its metrics are
written and read there, and nothing in that directory is ever removed.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from ..errors import ServiceConfigurationError
from .metrics_files import GONE, Key, Merged, is_gone, store

__all__ = [
    "ask_functions",
    "check_installed",
    "chosen_directory",
    "families_of",
    "page",
    "share_users_metrics",
]

_logger = logging.getLogger("gemstone_sync.metrics")

#: Collectors of one process that would jump from worker to worker.
_OF_ONE_PROCESS = ("ProcessCollector", "GCCollector")


def check_installed() -> None:
    """:raises ServiceConfigurationError: when there is no prometheus_client."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise ServiceConfigurationError(
            "metrics = True needs prometheus_client: pip install 'gemstone_sync[metrics]'"
        )


def chosen_directory() -> str | None:
    """Return the directory that the program has chosen for metrics of several processes."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or None


# Users' metrics


def share_users_metrics(*, counted_here: bool = True) -> None:
    """Keep the values of prometheus_client's metrics in our store, those of the past too.

    :param counted_here: False leaves to another process what was counted before it was forked.
    """
    from prometheus_client import values

    if chosen_directory() is not None or values.ValueClass is _SharedValue:
        return
    values.ValueClass = _SharedValue
    from prometheus_client.metrics import MetricWrapperBase

    for collector in _collectors():
        if isinstance(collector, MetricWrapperBase):
            _convert(collector, values.MutexValue, counted_here)


class _SharedValue:
    """Stands where prometheus_client has a value: one double, and when it was set."""

    _multiprocess = True
    _view: Any = None
    #: Of gauges: the newest object that has a key.
    _newest: ClassVar[dict[str, int]] = {}

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Iterable[str],
        labelvalues: Iterable[str],
        help_text: str,
        multiprocess_mode: str = "",
        **kwargs: Any,
    ) -> None:
        kind = f"gauge_{multiprocess_mode}" if typ == "gauge" else typ
        labels = tuple(sorted(zip(labelnames, labelvalues, strict=False)))
        self._key = Key("", kind, metric_name, help_text, name, labels).text()
        if typ == "gauge":
            self._newest[self._key] = id(self)
        self._has_moment = kind.endswith("mostrecent")
        self._place()
        store.keep_in_step(self)

    def _place(self) -> None:
        self._view, self._index = store.place(self._key, 1 + self._has_moment)
        if is_gone(self._view[self._index]):
            self._view[self._index] = 0.0

    def __del__(self) -> None:
        # Of a gauge, ``remove`` and ``clear`` say no more than that. Counters must not go back, and
        # a process that ends leaves its values behind.
        if self._view is not None and self._newest.get(self._key) == id(self):
            del self._newest[self._key]
            if not sys.is_finalizing():
                self._view[self._index] = GONE

    def clear(self) -> None:
        """Have no place any more: another directory, or a forked child."""
        self._view = None

    def inc(self, amount: float) -> None:
        if self._view is None:
            self._place()
        with store.lock:
            self._view[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        if self._view is None:
            self._place()
        with store.lock:
            self._view[self._index] = value
            if self._has_moment:
                self._view[self._index + 1] = timestamp or 0.0

    def get(self) -> float:
        if self._view is None:
            self._place()
        return float(self._view[self._index])

    def set_exemplar(self, exemplar: object) -> None:
        """Do nothing: exemplars are of one process."""

    def get_exemplar(self) -> None:
        return None


def ask_functions() -> None:
    """Put what the functions of gauges say (``set_function``) where other processes read it."""
    from prometheus_client import Gauge

    for gauge in _collectors():
        if not isinstance(gauge, Gauge):
            continue
        for child in [gauge, *getattr(gauge, "_metrics", {}).values()]:
            if "_child_samples" in vars(child):
                for sample in _answers(child._child_samples, gauge):
                    child._value.set(sample.value)


def _convert(metric: Any, before: type[Any], counted_here: bool) -> None:
    """Put the values of a metric, and of its children, into the store."""
    for child in [metric, *getattr(metric, "_metrics", {}).values()]:
        for attribute, value in list(vars(child).items()):
            if type(value) is before:
                setattr(child, attribute, _converted(child, attribute, None, value, counted_here))
            elif attribute == "_buckets":
                bounds = child._upper_bounds
                child._buckets = [
                    _converted(child, attribute, bound, each, counted_here)
                    for bound, each in zip(bounds, value, strict=True)
                ]


def _converted(metric: Any, attribute: str, bound: Any, value: Any, counted_here: bool) -> Any:
    from prometheus_client.utils import floatToGoString

    suffix = {"_sum": "_sum", "_count": "_count", "_buckets": "_bucket"}.get(attribute, "")
    if metric._type == "counter":
        suffix = "_total"
    names, values = tuple(metric._labelnames), tuple(metric._labelvalues)
    if bound is not None:
        names, values = (*names, "le"), (*values, floatToGoString(bound))
    mode = getattr(metric, "_multiprocess_mode", "")
    new = _SharedValue(
        metric._type,
        metric._name,
        metric._name + suffix,
        names,
        values,
        metric._documentation,
        multiprocess_mode=mode,
    )
    if counted_here or metric._type == "gauge":
        new.inc(value.get())
    return new


def _collectors() -> list[Any]:
    from prometheus_client import REGISTRY

    return list(REGISTRY._collector_to_names)


# The page


def families_of(merged: Iterable[Merged]) -> list[Any]:
    """Make prometheus_client's metrics of values."""
    families: dict[str, Any] = {}
    buckets: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
    for each in merged:
        key = each.key
        family = families.get(key.family)
        if family is None:
            family = families[key.family] = _family(key.family, key.help, key.kind)
        if not key.sample:
            _add_histogram(family, each)
        elif key.sample.endswith("_bucket") and key.kind == "histogram":
            others = tuple(pair for pair in key.labels if pair[0] != "le")
            bound = next((float(value) for name, value in key.labels if name == "le"), math.inf)
            buckets.setdefault((key.family, others), {})[bound] = each.values[0]
        else:
            labels = dict(key.labels) if each.pid is None else {**dict(key.labels), "pid": each.pid}
            family.add_sample(key.sample, {n: str(v) for n, v in labels.items()}, each.values[0])
    for (name, pairs), counts in buckets.items():
        _add_buckets(families[name], dict(pairs), sorted(counts.items()))
    for family in families.values():
        # Whole series together, as both formats want them; the sort is stable.
        family.samples.sort(key=lambda s: [p for p in sorted(s.labels.items()) if p[0] != "le"])
    return list(families.values())


def _family(name: str, help: str, kind: str) -> Any:
    from prometheus_client.core import Metric

    return Metric(name, help, "gauge" if kind.startswith("gauge") else kind)


def _add_histogram(family: Any, each: Merged) -> None:
    *counts, total = each.values
    labels = dict(each.key.labels)
    _add_buckets(family, labels, zip([*each.key.bounds, math.inf], counts, strict=True))
    family.add_sample(f"{family.name}_sum", labels, total)


def _add_buckets(
    family: Any, labels: dict[str, str], counts: Iterable[tuple[float, float]]
) -> None:
    from prometheus_client.utils import floatToGoString

    sum_of_all = 0.0
    for bound, count in counts:
        sum_of_all += count
        with_bound = {**labels, "le": floatToGoString(bound)}
        family.add_sample(f"{family.name}_bucket", with_bound, sum_of_all)
    family.add_sample(f"{family.name}_count", labels, sum_of_all)


class _Page:
    """A collector of what is given and of users' metrics."""

    def __init__(self, families: list[Any], shared: bool) -> None:
        self._families = families
        self._shared = shared

    def collect(self) -> Iterator[Any]:
        yield from self._families
        taken = {family.name for family in self._families}
        for family in self._users():
            if family.name not in taken:
                taken.add(family.name)
                yield family

    def _users(self) -> Iterator[Any]:
        from prometheus_client.metrics import Counter, Gauge, Histogram, Summary

        chosen = chosen_directory() if self._shared else None
        if chosen is not None:
            yield from _collected(_chosen_files(chosen))
        for collector in _collectors():
            name = type(collector).__name__
            # Those whose values are in files, and those that would jump from worker to worker.
            in_files = isinstance(collector, (Counter, Gauge, Histogram, Summary))
            if not self._shared or not (in_files or name in _OF_ONE_PROCESS):
                yield from _collected(collector)


class _ChosenFiles:
    """A collector of the files in the directory that the program has chosen."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __repr__(self) -> str:
        return self._path

    def collect(self) -> Iterable[Any]:
        """Read them; raises what prometheus_client raises where one is broken or all are gone."""
        from prometheus_client.multiprocess import MultiProcessCollector

        return MultiProcessCollector(None, self._path).collect()  # type: ignore[no-any-return]


#: One for each path, so that it is told once what is wrong with it.
_chosen_files = functools.cache(_ChosenFiles)

#: Collectors that have failed, by what was said of them.
_failing: weakref.WeakSet[Any] = weakref.WeakSet()


def _collected(collector: Any) -> list[Any]:
    """Collect what one collector has; a broken one keeps the others from nobody."""
    return _answers(collector.collect, collector)


def _answers(function: Callable[[], Iterable[Any]], collector: Any) -> list[Any]:
    try:
        return list(function())
    except Exception as error:
        if collector not in _failing:
            _failing.add(collector)
            _logger.error("metrics of %r cannot be collected", collector, exc_info=error)
        return []


def page(families: list[Any], accept: str | None, *, shared: bool) -> tuple[bytes, str]:
    """Write a page of metrics, users' own among them.

    :param accept: what the caller takes: OpenMetrics, or the text format 0.0.4.
    :param shared: other processes count too.
    :returns: the body, and its content type.
    """
    from prometheus_client.exposition import choose_encoder

    try:
        encode, content_type = choose_encoder(accept or "")
    except (TypeError, ValueError):  # a caller's version that is no number
        encode, content_type = choose_encoder("")
    return encode(_Page(families, shared)), content_type
