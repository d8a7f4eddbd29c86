"""What waits in C is mended, or named in one warning, when it is imported in a patched process."""

import pytest

NOISY = """
import sys
{before}
import gemstone_sync
gemstone_sync.MicroService
{after}
import gemstone_sync.patch, pyodbc, importlib  # again changes nothing
print(pyodbc.__spec__.loader.get_source("pyodbc"), sys.modules["pyodbc"] is pyodbc)
"""


@pytest.mark.parametrize(("order", "patch"), [("before", "late"), ("before", "1"), ("after", "1")])
def test_what_blocks_is_named_once(run_python, tmp_path, order, patch):
    (tmp_path / "pyodbc.py").write_text("# mine")
    source = NOISY.format(**{"before": "", "after": "", order: "import pyodbc"})

    done = run_python(source, GEMSTONE_MONKEY_PATCH=patch)

    assert done.stdout == "# mine True\n", done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert "pyodbc waits for the database in C" in told
    assert "get_executor().submit(work).result()" in told


def test_a_program_that_is_not_patched_is_told_nothing(run_python, tmp_path):
    (tmp_path / "pyodbc.py").write_text("# mine")
    source = NOISY.format(before="import pyodbc", after="").replace("MicroService", "RemoteService")
    source = source.replace("import gemstone_sync.patch, ", "import ")
    source += "import sqlite3; print(type(sqlite3.connect(':memory:')) is sqlite3.Connection)"

    done = run_python(source)

    assert done.stdout == "# mine True\nTrue\n"
    assert done.stderr == ""


LOOKED_FOR = """
import gemstone_sync.patch
import importlib.util, sys
assert importlib.util.find_spec("pyodbc") is not None
assert importlib.util.find_spec("pylibmc") is None
try:
    import pylibmc
except ModuleNotFoundError as error:
    print(error)
"""


def test_looking_for_a_library_is_not_importing_it(run_python, tmp_path):
    (tmp_path / "pyodbc.py").touch()
    done = run_python(LOOKED_FOR)
    assert (done.stdout, done.stderr) == ("No module named 'pylibmc'\n", "")


NAMES_IMPORTED_FIRST = """
from sqlite3 import connect
import gemstone_sync
gemstone_sync.MicroService
import sqlite3
print(connect is sqlite3.connect, type(connect(":memory:")) is sqlite3.Connection)
"""


def test_names_that_were_imported_before_are_mended_too(run_python):
    done = run_python(NAMES_IMPORTED_FIRST, GEMSTONE_MONKEY_PATCH="late")
    assert done.stdout == "True False\n", done.stderr


PATCHED_BY_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sqlite3
import gemstone_sync
gemstone_sync.MicroService
print(type(sqlite3.connect(":memory:")) is sqlite3.Connection)
"""


def test_a_program_that_gevent_patched_has_it_too(run_python):
    """So have gunicorn's gevent workers."""
    assert run_python(PATCHED_BY_GEVENT).stdout == "False\n"
