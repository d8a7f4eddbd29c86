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
