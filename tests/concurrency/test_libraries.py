"""What waits in C is mended, or named in one warning, when it is imported in a patched process."""

import zipfile

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


#: A finder as those of wrapt, ddtrace, newrelic and importhook, and others, older than the patch.
GUARDED = """
import importlib.util, sys

class Proxy:  # what is set on it lands on what it wraps
    def __init__(self, wrapped):
        self.__dict__["wrapped"] = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def __setattr__(self, name, value):
        setattr(self.wrapped, name, value)

    def exec_module(self, module):
        self.wrapped.exec_module(module)
        print("hook", type(module.connect(":memory:")) is not module.Connection)

class Finder:
    busy = False

    def find_spec(self, name, path=None, target=None):
        if name != "sqlite3" or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
            spec.loader = Proxy(spec.loader)
            return spec
        finally:
            self.busy = False

sys.meta_path.insert(0, Finder())
"""

#: The same, finding by all other finders.
UNGUARDED = GUARDED.replace("self.busy = True", "pass").replace(
    "importlib.util.find_spec(name)",
    "next(filter(None, (f.find_spec(name, path, target) for f in sys.meta_path if f is not self)))",
)

#: It looks, and leaves it to the others.
LOOKING = GUARDED.replace(
    "return spec", 'print("hook", "mended" != spec.loader.wrapped); return None'
)

TWO = GUARDED + GUARDED.partition("sys\n")[2]

WRAPT = """
import wrapt
wrapt.register_post_import_hook(
    lambda m: print("hook", type(m.connect(":memory:")) is not m.Connection), "sqlite3"
)
"""

LAZY = """
import importlib.util, sys
spec = importlib.util.find_spec("sqlite3")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["sqlite3"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["sqlite3"])
print("hook", True)
"""

HOOKED = """
import gemstone_sync.patch
{hook}
import importlib, inspect, sqlite3
print(type(sqlite3.connect(":memory:")) is not sqlite3.Connection)
assert inspect.getsource(sqlite3), sqlite3.__spec__.loader.get_source("sqlite3")
connect = importlib.reload(sqlite3).connect
print(type(connect(":memory:")) is not sqlite3.Connection)
"""

HOOKS = {
    "guarded": GUARDED,
    "unguarded": UNGUARDED,
    "looking": LOOKING,
    "two": TWO,
    "wrapt": WRAPT,
    "lazy": LAZY,
}


@pytest.mark.parametrize("order", ["older", "newer"])
@pytest.mark.parametrize("kind", HOOKS)
def test_import_hooks_of_others_see_what_is_mended(run_python, tmp_path, kind, order):
    hook = HOOKS[kind]
    (tmp_path / "sitecustomize.py").write_text(hook if order == "older" else "")
    source = HOOKED.format(hook=hook if order == "newer" else "")

    done = run_python(source, PYTHONPATH=str(tmp_path))

    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "hook True"
    assert {*lines} == {"hook True", "True"}


PACKED = """
import sys
import gemstone_sync.patch
sys.path.insert(0, "packed.zip")
import pyodbc
print(pyodbc.__loader__.get_source("pyodbc"), type(pyodbc.__loader__).__name__)
"""


def test_what_is_packed_is_mended_too(run_python, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("pyodbc.py", "# mine")

    done = run_python(PACKED)

    assert done.stdout == "# mine zipimporter\n"
    assert "pyodbc waits for the database in C" in done.stderr
