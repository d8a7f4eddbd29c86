"""The command line is the service's only where the program's own main module asks."""

import os
import subprocess
import sys
import zipapp

import pytest

from tests.support.waiting import LIMIT

SERVICE = """
import os, sys
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "asked"

if "CHANGED" in os.environ:  # a program that has words of its own
    sys.argv.remove("--mine")
if "ELSEWHERE" in os.environ:
    os.chdir("/")
service = Service()
service.configure()
print(service.max_hops)
"""

OWN = ["--max_hops", "3"]
EXEC = "exec(open('service.py').read())"
RUN_PATH = "import runpy; runpy.run_path('service.py', run_name='__main__')"
#: A launcher takes its own words away first.
LAUNCHED = "import runpy, sys; sys.argv.pop(0); runpy.run_path('service.py', run_name='__main__')"
#: What IPython's %run and other prompts do.
RUN = """
import sys
sys.argv = ["service.py", "--max_hops", "3"]
code = compile(open("service.py").read(), "service.py", "exec")
exec(code, {"__name__": "__main__", "__file__": "service.py"})
"""


@pytest.fixture
def ask(tmp_path):
    """Run Python with these words; what the service was configured to, as text."""
    (tmp_path / "service.py").write_text(SERVICE)
    for folder in ("package", "folder"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__main__.py").write_text(SERVICE)
    zipapp.create_archive(tmp_path / "folder", tmp_path / "app.pyz")

    def run(*words, **environment):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            # Not patched: a program whose command line is asked for needs no more.
            env={**os.environ, "GEMSTONE_MONKEY_PATCH": "0", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["service.py"],
        ["-m", "service"],
        ["-m", "package"],
        ["app.pyz"],
        ["folder"],
        ["-c", EXEC],
        ["-m", "cProfile", "-o", os.devnull, "service.py"],
        ["-c", LAUNCHED, "service.py"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_the_programs_own_is_read(ask, words):
    assert ask(*words, *OWN) == "3"


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["service.py", "--mine", *OWN], {"CHANGED": "1"}),
        (["service.py", *OWN], {"ELSEWHERE": "1"}),
        (["-c", RUN, "--not-for-the-service"], {}),
    ],
    ids=["changed", "another directory", "given by a prompt"],
)
def test_it_is_what_the_program_has_made_of_it(ask, words, environment):
    assert ask(*words, **environment) == "3"


@pytest.mark.parametrize(
    "words",
    [
        ["-c", RUN_PATH],
        ["-c", RUN_PATH.replace("path('service.py'", "module('service', alter_sys=True")],
        ["-c", "exec(open('service.py').read(), {'__name__': '__main__'})"],
        ["-c", "import service"],
        ["-c", RUN.replace("sys.argv = ", "mine = "), "service.py"],
    ],
    ids=["run_path", "run_module", "exec", "import", "exec of a file"],
)
def test_that_of_what_runs_it_is_not(ask, words):
    assert ask(*words, "--not-for-the-service") == "8"
