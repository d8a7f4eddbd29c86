"""Measure the explorer: sizes, the first paint, and a key in the search of 1,000 methods.

python tests/benchmarks/explorer.py [--methods 1000] [--visits 5]

Needs chromium and playwright. The times are the browser's own (`performance.now()`): from opening
the page to its first contentful paint and to the finished list; and from each key to the list as it
is laid out then.
"""

import argparse
import gzip
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gemstone_sync.explorer.files import _FOLDER
from gemstone_sync.testing import running_service
from tests.explorer.browser import Browser
from tests.explorer.hostile import many

#: Typed key by key: it finds by names, by summaries, and in the end one method.
TYPED = "group07 method_7"


def sizes() -> None:
    """Print the size of each file, gzipped as the service sends it."""
    total = 0
    for path in sorted(_FOLDER.iterdir()):
        size = len(gzip.compress(path.read_bytes(), 9))
        total += size
        print(f"{size:8,d} B  {path.name}")
    print(f"{total:8,d} B  together, of 60,000")


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", type=int, default=1000)
    parser.add_argument("--visits", type=int, default=5)
    asked = parser.parse_args()
    sizes()
    browser = Browser()
    try:
        with running_service(many(asked.methods)) as service:
            visits = [
                browser.walk("search_times", service.url, text=TYPED) for _ in range(asked.visits)
            ]
    finally:
        browser.close()
    keys = [one for visit in visits[1:] or visits for one in visit["keys"]]
    for name, told in (("paint", "to the first paint"), ("listed", "until the list is there")):
        values = [visit[name] for visit in visits]
        print(
            f"{statistics.median(values):8.0f} ms  {told} with {asked.methods} methods, "
            f"the first time {values[0]:.0f}"
        )
    print(
        f"{statistics.median(keys):8.1f} ms  a key in the search, the slowest {max(keys):.1f}; "
        f"{visits[0]['found']!r}"
    )


if __name__ == "__main__":
    main()
