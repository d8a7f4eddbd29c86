"""Latencies: counted in little memory, read as percentiles, drawn as bars. No clock, no I/O.

`Histogram` counts in buckets that are less than 1 % wide, so ten million calls take no more memory
than ten thousand, and a percentile is at most that much too high. What is drawn has far wider
buckets, with bounds that are round numbers.

Source: the buckets are those of HdrHistogram (Gil Tene): a power of two, split evenly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Bar", "Histogram", "bars_of", "draw", "text_of"]

#: Each power of two is split into 2 ** _BITS buckets: 1/128 is 0.8 %.
_BITS = 7

#: Bounds within a decade, coarse to fine. The last three are preferred numbers (IEC 60063: E6, E12,
#: E24), which grow by an even ratio.
_SERIES = tuple(
    tuple(float(number) for number in numbers.split())
    for numbers in (
        "1",
        "1 2 5",
        "1 1.5 2.2 3.3 4.7 6.8",
        "1 1.2 1.5 1.8 2.2 2.7 3.3 3.9 4.7 5.6 6.8 8.2",
        "1 1.1 1.2 1.3 1.5 1.6 1.8 2 2.2 2.4 2.7 3 3.3 3.6 3.9 4.3 4.7 5.1 5.6 6.2 6.8 7.5 8.2 9.1",
    )
)
#: Bars at most, when a series is coarse enough: more are no shape that one sees at a glance.
_MAX_BARS = 16

_EIGHTHS = " ▏▎▍▌▋▊▉"
_FULL = "█"


class Bar(NamedTuple):
    """How many calls took from `start` to less than `end` seconds."""

    start: float
    end: float
    calls: int


class Histogram:
    """Counts durations.

    >>> latencies = Histogram()
    >>> for seconds in (0.001, 0.002, 0.003, 0.1):
    ...     latencies.record(seconds)
    >>> latencies.count, latencies.max
    (4, 0.1)
    >>> round(latencies.percentile(50), 4)
    0.002
    """

    def __init__(self) -> None:
        self.count = 0
        #: Exact, in seconds, as are `max` and `total`; 0 while there is no value.
        self.min = 0.0
        self.max = 0.0
        self.total = 0.0
        self._counts: defaultdict[int, int] = defaultdict(int)

    def record(self, seconds: float) -> None:
        """Count a duration; one below a nanosecond counts as none."""
        nanoseconds = max(0, int(seconds * 1e9))
        self._counts[_index_of(nanoseconds)] += 1
        if self.count == 0 or seconds < self.min:
            self.min = seconds
        if seconds > self.max:
            self.max = seconds
        self.count += 1
        self.total += seconds

    @property
    def mean(self) -> float:
        """Seconds; 0 while there is no value."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The seconds within which so many of a hundred values are; 0 while there is none.

        By nearest rank: it is a value that occurred, to within the width of a bucket, and never
        one between two.

        :raises ValueError: for a percentage that is not above 0 and up to 100.
        """
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile is above 0 and up to 100, not {percent!r}")
        # 99.9 % of 1,000 is 999.0000000000001 in floats, and would be the 1,000th.
        rank = math.ceil(round(self.count * percent / 100, 6))
        if rank >= self.count:
            return self.max
        seen = 0
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen >= rank:
                return min(max(_bounds_of(index)[1] / 1e9, self.min), self.max)
        return self.max

    def values(self) -> list[tuple[float, int]]:
        """The middle of each bucket that has a count, in seconds, and its count; ascending."""
        found = []
        for index in sorted(self._counts):
            low, high = _bounds_of(index)
            middle = min(max((low + high) / 2e9, self.min), self.max)
            found.append((middle, self._counts[index]))
        return found


def _index_of(nanoseconds: int) -> int:
    shift = max(0, nanoseconds.bit_length() - _BITS - 1)
    return (shift << _BITS) + (nanoseconds >> shift)


def _bounds_of(index: int) -> tuple[int, int]:
    """The nanoseconds ``[low, high)`` of a bucket."""
    shift = max(0, (index >> _BITS) - 1)
    low = (index - (shift << _BITS)) << shift
    return low, low + (1 << shift)


# Drawing


def bars_of(histogram: Histogram) -> list[Bar]:
    """The counts between round bounds, from the smallest value to the largest, gaps included.

    The bounds are as fine as a dozen bars allow; they grow by ratios, so that the few slow calls
    are seen beside the many fast ones.
    """
    values = histogram.values()
    if not values:
        return []
    # Below a microsecond all are alike.
    least, most = (max(value, 1e-6) for value in (values[0][0], values[-1][0]))
    bounds: Sequence[float] = ()
    for series in _SERIES:
        finer = _bounds_between(least, most, series)
        if bounds and len(finer) - 1 > _MAX_BARS:
            break
        bounds = finer
    counts = [0] * (len(bounds) - 1)
    place = 0
    for value, count in values:
        while place < len(counts) - 1 and value >= bounds[place + 1]:
            place += 1
        counts[place] += count
    return [Bar(*bar) for bar in zip(bounds, bounds[1:], counts, strict=False)]


def _bounds_between(least: float, most: float, series: tuple[float, ...]) -> list[float]:
    """The bounds of a series from the last that is not above `least` to the first above `most`."""
    first, last = math.floor(math.log10(least)), math.floor(math.log10(most)) + 1
    # Through decimal text: 1.2 * 10 ** -3 is not the float 0.0012.
    every = [
        float(f"{step}e{exponent}") for exponent in range(first - 1, last + 1) for step in series
    ]
    start = max(place for place, bound in enumerate(every) if bound <= least)
    end = min(place for place, bound in enumerate(every) if bound > most)
    return every[start : end + 1]


def draw(bars: Sequence[Bar], width: int, *, plain: bool = False) -> list[str]:
    """A line for each bar.

    :param width: columns that a line has; with fewer than the labels need the bars are short.
    :param plain: in ASCII, for terminals that have nothing else.
    """
    if not bars:
        return []
    most = max(bar.calls for bar in bars)
    labels = [f"{text_of(bar.start)} - {text_of(bar.end)}" for bar in bars]
    counts = [f"{bar.calls:,}" for bar in bars]
    label_width, count_width = (max(map(len, texts)) for texts in (labels, counts))
    room = max(width - label_width - count_width - 4, 8)
    lines = []
    for bar, label, count in zip(bars, labels, counts, strict=True):
        length = _plain_bar if plain else _fine_bar
        drawn = length(bar.calls / most * room) if bar.calls else ""
        lines.append(f"{label:>{label_width}}  {count:>{count_width}}  {drawn}".rstrip())
    return lines


def _fine_bar(cells: float) -> str:
    """In eighths of a character; never nothing for a count that is there."""
    eighths = max(1, round(cells * 8))
    return _FULL * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _plain_bar(cells: float) -> str:
    return "#" * max(1, round(cells))


def text_of(seconds: float) -> str:
    """A duration for readers, in three digits.

    >>> text_of(0.00123), text_of(0.0156), text_of(2.5), text_of(0.0000123)
    ('1.23 ms', '15.6 ms', '2.5 s', '12.3 µs')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if float(f"{seconds:.3g}") >= size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds * 1e6)} µs"


def _three_digits(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    rounded = f"{value:.3g}"
    return f"{float(rounded):g}"
