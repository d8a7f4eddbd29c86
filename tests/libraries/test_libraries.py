"""Each library and object in a method, in both orders of import, in each way to run.

`python file` has each in a process of its own, since there the order matters most: what is imported
before must be found patched. In the other ways those that disturb nobody share a process.
"""

from collections.abc import Iterator, Sequence

import pytest

from tests.support.machine import absent

from .peers import peers
from .rows import ROWS, Row
from .running import ORDERS, WAYS, outcomes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def ports() -> Iterator[str]:
    with peers() as found:
        yield found


def check(rows: Sequence[Row], order: str, way: str, folder, ports: str) -> None:
    found = outcomes(rows, order, way, folder, ports)
    for row in rows:
        wanted = ("warned", "refused") if row.told else ("right",)
        assert found[row.program].word in wanted, found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("row", ROWS, ids=[row.program for row in ROWS])
def test_in_a_file(row, order, tmp_path, ports):
    if missing := row.missing():
        absent(missing)
    check([row], order, "file", tmp_path, ports)


TOGETHER = [row for row in ROWS if not row.is_alone]


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("order", ORDERS)
def test_together(order, way, tmp_path, ports):
    rows = [row for row in TOGETHER if not row.missing()]
    check(rows, order, way, tmp_path, ports)


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("row", [row for row in ROWS if row.is_alone], ids=lambda row: row.program)
def test_alone(row, way, tmp_path, ports):
    if missing := row.missing():
        absent(missing)
    check([row], "before", way, tmp_path, ports)
