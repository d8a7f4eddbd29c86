"""What the histogram counts, gives back and draws."""

import itertools
import random
from collections.abc import Iterable

import pytest

from gemstone_sync.cli.histogram import Bar, Histogram, bars_of, draw, text_of

#: A bucket is at most 1/128 wide; floats and nanoseconds add a little.
WIDTH = 1 / 128 + 1e-6


def histogram_of(values: Iterable[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def test_nothing_is_counted_yet():
    histogram = Histogram()
    assert (histogram.count, histogram.min, histogram.max, histogram.mean) == (0, 0, 0, 0)
    assert histogram.percentile(50) == 0
    assert bars_of(histogram) == draw([], 80) == []


def test_one_call_is_every_percentile():
    histogram = histogram_of([0.0123456])
    assert {histogram.percentile(p) for p in (0.1, 50, 99.9, 100)} == {0.0123456}
    assert (histogram.min, histogram.max, histogram.mean) == (0.0123456, 0.0123456, 0.0123456)
    for percent in (0, -1, 100.1, float("nan")):
        with pytest.raises(ValueError, match="percentile"):
            histogram.percentile(percent)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [2, 10, 99, 1000, 5000])
def test_percentiles_are_those_of_the_sorted_values(seed, size):
    rng = random.Random(seed)
    values = sorted(rng.lognormvariate(-6, 2) for _ in range(size))
    histogram = histogram_of(rng.sample(values, size))

    for percent in (1, 25, 50, 90, 99, 99.9):
        # Nearest rank, in whole numbers: the least rank that has so many per mille at or below it.
        rank = -(-size * round(percent * 10) // 1000)
        exact = values[rank - 1]
        assert exact * (1 - 1e-6) - 1e-9 <= histogram.percentile(percent) <= exact * (1 + WIDTH)
    assert histogram.percentile(100) == histogram.max == values[-1]
    assert histogram.min == values[0]
    assert histogram.mean == pytest.approx(sum(values) / size)


def test_a_percentile_of_a_thousand_is_not_its_slowest_call():
    """99.9 % of 1,000 is a little above 999 in floats."""
    histogram = histogram_of([0.001] * 999 + [5.0])
    assert histogram.percentile(99.9) < 0.0011
    assert histogram.percentile(99.91) == 5.0


def test_its_memory_does_not_grow_with_the_calls():
    rng = random.Random(1)
    histogram = histogram_of(rng.uniform(0.001, 0.002) for _ in range(20_000))
    assert len(histogram.values()) <= 2 * 128 + 1
    assert sum(count for _, count in histogram.values()) == 20_000


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [0.0, 1e-9, 1e-7],
        [0.001],
        [0.001, 0.01, 0.1],
        [0.00999999, 0.01, 0.01000001],
        [1e-6, 3600.0],
        [9.999, 10.0, 10.001],
        [0.0023] * 50 + [0.0024],
        [86_400.0],
    ],
)
def test_bars_hold_every_call_between_round_bounds(values):
    bars = bars_of(histogram_of(values))
    assert sum(bar.calls for bar in bars) == len(values)
    assert bars[0].calls > 0
    assert bars[-1].calls > 0
    assert len(bars) <= 16
    for bar, following in itertools.pairwise(bars):
        assert bar.end == following.start
    for bar in bars:
        assert bar.start < bar.end
        assert float(f"{bar.start:.1e}") == bar.start, "a bound of more than two digits"
    assert bars[0].start <= max(min(values), 1e-6) * (1 + WIDTH)
    assert bars[-1].end >= max(values) * (1 - WIDTH)


def test_many_values_are_in_the_bars_they_belong_to():
    rng = random.Random(7)
    values = [rng.lognormvariate(-6, 1) for _ in range(3000)]
    for bar in bars_of(histogram_of(values)):
        at_least = sum(bar.start * (1 + WIDTH) <= v < bar.end * (1 - WIDTH) for v in values)
        at_most = sum(bar.start * (1 - WIDTH) <= v < bar.end * (1 + WIDTH) for v in values)
        assert at_least <= bar.calls <= at_most


def test_alike_calls_have_fine_bars_and_unlike_ones_coarse_bars():
    fine = bars_of(histogram_of([0.0100, 0.0112, 0.0128]))
    coarse = bars_of(histogram_of([0.0001, 0.01, 1.0]))
    assert fine[0].end / fine[0].start < 1.2
    assert coarse[0].end / coarse[0].start >= 1.9


BARS = [Bar(0.001, 0.002, 1000), Bar(0.002, 0.005, 500), Bar(0.005, 0.01, 0), Bar(0.01, 0.02, 1)]


@pytest.mark.parametrize("width", [40, 60, 79, 120])
@pytest.mark.parametrize("plain", [False, True])
def test_lines_fit_the_width(width, plain):
    lines = draw(BARS, width, plain=plain)
    assert max(map(len, lines)) <= width
    assert len(lines[0]) >= width - 1, "the longest bar takes all the room"


def test_bars_are_as_long_as_their_counts():
    lines = draw(BARS, 80)
    full, half, none, one = (line.count("█") for line in lines)
    assert abs(full - 2 * half) <= 1
    assert (none, one) == (0, 0)
    assert lines[0].startswith("  1 ms - 2 ms  1,000  █")
    assert lines[2] == " 5 ms - 10 ms      0"
    assert lines[3].endswith("▏"), "one call among a thousand is seen"
    assert draw(BARS, 10)[0].count("█") == 8, "a narrow terminal still has short bars"
    lines = draw(BARS, 60, plain=True)
    assert "\n".join(lines).isascii()
    assert lines[0].endswith("#####")
    assert lines[3].endswith(" #")


def test_durations_are_read_at_a_glance():
    times = {0: "0 µs", 1.234e-6: "1.23 µs", 0.0000999: "99.9 µs", 0.0009999: "1 ms"}
    times |= {0.00123: "1.23 ms", 0.0156: "15.6 ms", 0.4567: "457 ms", 0.9999: "1 s"}
    times |= {2.5: "2.5 s", 59.94: "59.9 s", 1234.5: "1,234 s"}
    assert {seconds: text_of(seconds) for seconds in times} == times
