"""Users' own metrics in shared files: what is taken over, and what is taken away."""

import gc
import math

import prometheus_client
from prometheus_client import values

from gemstone_sync.ops import prometheus
from gemstone_sync.ops.metrics_files import store

MINE = "test_prometheus_py"


def known() -> dict[tuple[str, ...], float]:
    """Read what stands on the page of these tests' metrics, by values of labels."""
    return {
        tuple(value for _, value in each.key.labels): each.values[0]
        for each in store.merged()[0]
        if each.key.family == MINE
    }


def gauge(room: str, kind: str = "gauge") -> prometheus._SharedValue:
    return prometheus._SharedValue(kind, MINE, MINE, ("room",), (room,), "Help.", "livesum")


def test_a_gauge_that_nobody_keeps_is_gone_and_begins_anew():
    """``clear`` and ``remove`` drop what prometheus_client has of it, and tell nobody."""
    kept, dropped = gauge("kept"), gauge("dropped")
    kept.set(math.nan)
    dropped.set(3)
    assert known().keys() == {("kept",), ("dropped",)}
    del dropped
    gc.collect()
    assert known().keys() == {("kept",)}
    again = gauge("dropped")
    again.inc(2)
    assert known()["dropped",] == 2


def test_one_that_was_made_anew_outlives_the_first():
    """A module that is loaded again, or who keeps a child that was removed."""
    first = gauge("twice")
    first.set(1)
    second = gauge("twice")
    second.set(2)
    del first
    gc.collect()
    assert known()["twice",] == 2


def test_a_counter_that_nobody_keeps_goes_on():
    first = gauge("counted", "counter")
    first.inc(3)
    del first
    gauge("counted", "counter").inc(1)
    gc.collect()
    assert known()["counted",] == 4


def test_what_the_parent_has_counted_is_taken_over_once():
    """Each of gunicorn's workers has a copy of it under ``--preload``."""
    metrics = prometheus_client
    counts = metrics.Counter(f"{MINE}_counts", "Help.", registry=None)
    sizes = metrics.Histogram(f"{MINE}_sizes", "Help.", ["kind"], registry=None)
    level = metrics.Gauge(f"{MINE}_level", "Help.", registry=None)
    counts.inc(2)
    sizes.labels("a").observe(1)
    level.set(3)
    for metric in (counts, sizes, level):
        prometheus._convert(metric, values.MutexValue, counted_here=False)
    taken = {(s.name, s.labels.get("le")): s.value for m in (counts, sizes) for s in _samples(m)}
    assert not any(value for (name, _), value in taken.items() if not name.endswith("_created"))
    assert level._value.get() == 3  # of each worker by itself, as ever


def _samples(metric):
    (family,) = metric.collect()
    return family.samples
