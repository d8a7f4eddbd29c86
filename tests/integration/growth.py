"""By how much processes grow while somebody looks at them again and again."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

#: Figures of one process at one moment, by their names.
Sample = dict[str, float]


def sample(pid: int) -> Sample:
    """What a process has, as the system tells it."""
    (pages,) = Path(f"/proc/{pid}/statm").read_text().split()[1:2]
    return {
        "MB": int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def growth(samples: Sequence[Sample]) -> Sample:
    """How much more the last third has than the second, in medians: the first is warming up."""
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]
    return {
        name: round(
            statistics.median(each[name] for each in after)
            - statistics.median(each[name] for each in before),
            1,
        )
        for name in samples[0]
    }
