"""Print what becomes of each library and object, in each order of import and way to run.

::

    python -m tests.libraries.matrix [--before OTHER_CHECKOUT] [--only PROGRAM] [--jobs 2]

A cell is ``right``, ``warned`` (it runs, with the one warning that belongs to it) or ``refused``
(in one line); anything else is a fault, told below the table, and makes the exit code 1. With
``--before`` each cell shows first what it was in that checkout.
"""

import gemstone_sync.testing.monkey  # noqa: F401  # isort: skip  # first

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gevent.pool import Pool

from tests.support.programs import REPOSITORY

from .peers import peers
from .rows import ROWS, Row
from .running import ORDERS, WAYS, Outcome, outcomes

#: Of a row: (checkout, order, way) -> what became of it.
Cells = dict[tuple[Path, str, str], Outcome]


def measure(row: Row, cells: Cells, key: tuple[Path, str, str], ports: str) -> None:
    checkout, order, way = key
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes([row], order, way, Path(folder), ports, checkout)
    cells[key] = found[row.program]
    print(f"{row.title}, {order}, {way}: {' '.join(cells[key])}", file=sys.stderr)


def lines_of(row: Row, cells: Cells, checkouts: Sequence[Path]) -> list[str]:
    """Its two lines of the table; the library stands before gemstone_sync, or after."""
    lines = []
    for order in ORDERS:
        shown = [" → ".join(cells[one, order, way].word for one in checkouts) for way in WAYS]
        lines.append(f"| {' | '.join([row.title, order, *shown])} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--only", action="append", help="one program of tests/libraries/programs")
    parser.add_argument("--jobs", type=int, default=2, help="how many services run at once")
    args = parser.parse_args()
    rows = [row for row in ROWS if not args.only or row.program in args.only]
    checkouts = [args.before.resolve(), REPOSITORY] if args.before else [REPOSITORY]
    missing = {row: row.missing() for row in rows}
    tables: dict[Row, Cells] = {row: {} for row in rows if not missing[row]}
    with peers() as ports:
        pool = Pool(args.jobs)
        for row, cells in tables.items():
            for key in [(one, order, way) for one in checkouts for order in ORDERS for way in WAYS]:
                pool.spawn(measure, row, cells, key, ports)
        pool.join(raise_error=True)

    print(f"| library or object | imported | {' | '.join(WAYS)} |")
    print("|---" * (2 + len(WAYS)) + "|")
    for row, cells in tables.items():
        print(*lines_of(row, cells, checkouts), sep="\n")
    faults = [
        f"{row.title}, imported {order}, {way}: {' '.join(one)}"
        for row, cells in tables.items()
        for (checkout, order, way), one in cells.items()
        if checkout == REPOSITORY and not one.is_good
    ]
    skipped = [f"{row.title} is left out: {why}" for row, why in missing.items() if why]
    print(*skipped, *faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
