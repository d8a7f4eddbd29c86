"""Each library and object in a method, in both orders of import, in each way to run.

What a Python file imports before is in a process of its own for each: there the program is started
over. Otherwise the process is patched before, and those that disturb nobody share one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.machine import absent

from .peers import peers
from .rows import ROWS, Row
from .running import ORDERS, WAYS, outcomes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

IN_ONE_PROCESS = [
    (order, way) for order in ORDERS for way in WAYS if (order, way) != ("before", "file")
]


@pytest.fixture(scope="module")
def ports() -> Iterator[str]:
    with peers() as found:
        yield found


def check(rows: Sequence[Row], order: str, way: str, folder: Path, ports: str) -> None:
    found = outcomes(rows, order, way, folder, ports)
    # On a busy machine two calls may hardly meet.
    if apart := [row for row in rows if found[row.program].word == "blocks"]:
        (folder / "again").mkdir()
        found |= outcomes(apart, order, way, folder / "again", ports)
    wrong = {
        row.program: found[row.program]
        for row in rows
        if found[row.program].word not in (("warned", "refused") if row.told else ("right",))
    }
    assert not wrong, wrong


def each(rows: Sequence[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.program for row in rows])


@each(ROWS)
def test_imported_before_in_a_file(row, tmp_path, ports):
    if missing := row.missing():
        absent(missing)
    check([row], "before", "file", tmp_path, ports)


@pytest.mark.parametrize(("order", "way"), IN_ONE_PROCESS)
def test_many_in_one_process(order, way, tmp_path, ports):
    rows = [row for row in ROWS if not row.is_alone and not row.missing()]
    check(rows, order, way, tmp_path, ports)


@pytest.mark.parametrize(("order", "way"), IN_ONE_PROCESS)
@each([row for row in ROWS if row.is_alone])
def test_alone(row, order, way, tmp_path, ports):
    if missing := row.missing():
        absent(missing)
    check([row], order, way, tmp_path, ports)
