"""The bytecode instructions of one call stay within 10 % of the committed figures.

Wall clocks cannot say this in CI; see `opcodes.py`. It runs in a process of its own here, so that
neither pytest nor a coverage tool stands between it and the interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("opcodes.py")
FIGURES = PROGRAM.with_suffix(".json")
REPOSITORY = PROGRAM.parents[2]
VERSION = "{}.{}".format(*sys.version_info)

MOST = 1.10

#: tox runs the other interpreters; the main one must have figures.
IS_MAIN = "CI" in os.environ and "TOX_ENV_NAME" not in os.environ


def measured():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_instructions_of_a_call(capsys):
    committed = json.loads(FIGURES.read_text()).get(VERSION)
    if committed is None and not IS_MAIN:
        pytest.skip(f"no figures for Python {VERSION}: python {PROGRAM.name} --write makes them")
    assert committed is not None, f"no figures for Python {VERSION} in {FIGURES.name}"

    found = measured()

    with capsys.disabled():
        for way, count in found.items():
            figure = committed[way]
            print(
                f"\nPython {VERSION}, {way}: {count} instructions, committed {figure} "
                f"({count / figure - 1:+.1%})",
                end="",
            )
    for way, count in found.items():
        assert count <= committed[way] * MOST, (
            f"{way}: {count} instructions instead of {committed[way]}; if that is worth it: "
            f"python {PROGRAM.relative_to(REPOSITORY)} --write, with every Python version"
        )
