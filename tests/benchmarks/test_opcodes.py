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
VERSION = "{}.{}".format(*sys.version_info)

#: tox runs the other interpreters; the main one must have figures.
IS_MAIN = "CI" in os.environ and "TOX_ENV_NAME" not in os.environ


@pytest.mark.slow
def test_instructions_of_a_call(capsys):
    if VERSION not in json.loads(PROGRAM.with_suffix(".json").read_text()):
        assert not IS_MAIN, f"no figures for Python {VERSION}"
        pytest.skip(f"no figures for Python {VERSION}: python {PROGRAM.name} --write makes them")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--check"],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    with capsys.disabled():
        print(f"\n{done.stdout}", end="")
    assert done.returncode == 0, (
        f"{done.stdout}{done.stderr}\nif that is worth it: python {PROGRAM.name} --write, with "
        "every Python version"
    )
