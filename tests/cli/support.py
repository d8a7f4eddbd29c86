"""The installed ``gemstone`` executable, run as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.waiting import LIMIT

GEMSTONE = Path(sys.executable).with_name("gemstone")


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


def run(
    *words: str | bytes | Path,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = LIMIT,
) -> Done:
    """Run ``gemstone`` to its end; stdout and stderr are pipes.

    :param input: what it reads on stdin; nothing when left out.
    :param env: environment variables, beside those of the tests; no ``GEMSTONE_...`` is inherited.
    :param timeout: seconds, after which it is killed and the test fails.
    """
    done = subprocess.run(
        [GEMSTONE, *words],
        input="" if input is None else input,
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The tests' environment, without what would set an option of the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GEMSTONE_")}
    return {**kept, **(own or {})}


def line_of(done: Done, code: int) -> str:
    """The one line of a command that failed with `code`, and wrote nothing else."""
    assert (done.code, done.stdout) == (code, ""), done
    (line,) = done.stderr.splitlines()
    return line
