"""``gemstone run`` as a process of the tests."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.http import call, result_of
from tests.support.programs import Program

from .support import GEMSTONE, environment


class Serving(Program):
    """A ``gemstone run`` that was started in a folder, killed at the end of the test."""

    def __init__(self, folder: Path, *words: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        # Nothing that the tests were started with may set an option; Program adds to os.environ.
        foreign = dict.fromkeys(set(os.environ) - set(environment()), "")
        assert not foreign, f"the tests' environment sets {sorted(foreign)}"
        command = [str(GEMSTONE), "run", *words]
        super().__init__(command, folder, environment=env or {})

    def starts(self) -> list[int]:
        """The ports that it says it listens on, one for each start."""
        return [int(port) for port in re.findall(r"listens on http://[^/\s]+:(\d+)/", self.stderr)]

    def wait_for_start(self, number: int = 1) -> int:
        """Wait until it has said so `number` times; the last port."""
        self.wait_until(lambda: len(self.starts()) >= number, f"start {number}")
        self.port = self.starts()[-1]
        return self.port

    def call(self, method: str, *params: Any) -> Any:
        """The result of a call."""
        return result_of(call(self.port, method, *params))


@contextlib.contextmanager
def serving(folder: Path, *words: str, env: dict[str, str] | None = None) -> Iterator[Serving]:
    """Run ``gemstone run WORDS`` in a folder; it is killed at the end."""
    started = Serving(folder, *words, env=env)
    try:
        yield started
    finally:
        started.kill()


def children_of(pid: int) -> list[int]:
    """The processes below a process, at any depth."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in found] + [
        below for child in found for below in children_of(int(child))
    ]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not asked for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
