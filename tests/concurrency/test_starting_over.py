"""A program is patched from its first line, however it is started, or goes on as it is."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.programs import REPOSITORY
from tests.support.waiting import LIMIT

PROGRAM = """
import json, os, sys, threading
import weight

class Local(threading.local):
    pass

local = Local()

import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "s"

import gevent
gevent.spawn(setattr, local, "seen", True).join()
print(json.dumps({
    "patched first": not hasattr(local, "seen"),
    "pid": os.getpid(),
    "argv": sys.argv,
    "main": __name__,
    "spec": getattr(__spec__, "name", None),
    "path": sys.path[0],
    "environment": {k: v for k, v in os.environ.items() if "GEMSTONE" in k or k == "PYTHONPATH"},
}))
"""


def run(folder, *words, program=PROGRAM, **environment):
    """Run Python with these words; what the program says of itself."""
    (folder / "service.py").write_text(program)
    (folder / "weight.py").touch()  # some module that is not the standard library's
    left_out = ("GEMSTONE_MONKEY_PATCH", "PYTHONUNBUFFERED")
    inherited = {k: v for k, v in os.environ.items() if k not in left_out}
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=3 * LIMIT)
    assert process.returncode == 0, err
    (line,) = out.splitlines()
    return {"started": process.pid, "stderr": err, **json.loads(line)}


@pytest.mark.parametrize(
    "words",
    [
        ["service.py", "a", "--b"],
        ["-m", "service", "a"],
        pytest.param(["-X", "dev", "-O", "service.py"], marks=pytest.mark.slow),
        ["-c", "exec(open('service.py').read())", "a"],
        pytest.param(["-uc", "import service"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_program_is_patched_from_its_first_line(tmp_path, words):
    """In the same process, with the same arguments, in the same environment."""
    told = run(tmp_path, *words)

    assert told["patched first"], "its thread-local is one for all greenlets"
    assert told["pid"] == told["started"]
    assert told["main"] == ("service" if "import service" in words else "__main__")
    assert told["argv"][1:] == [word for word in words if word in ("a", "--b")]
    assert told["spec"] == ("service" if "-m" in words or "import service" in words else None)
    assert told["path"] in (str(tmp_path), "")
    assert told["environment"] == {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}
    assert told["stderr"] == ""


IN_A_FUNCTION = PROGRAM.replace(
    "class Service(gemstone_sync.MicroService):",
    """
def use():
    return gemstone_sync.MicroService

class Service(use()):""",
)
WITH_A_CHILD = (
    "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n" + PROGRAM + "child.kill()"
)
WITH_A_HUB = "import gevent\ngevent.sleep(0)\n" + PROGRAM
TRACED = "import sys\nsys.settrace(lambda *event: None)\n" + PROGRAM
ELSEWHERE = "import os\nos.chdir(os.path.dirname(__file__))\n" + PROGRAM
HAS_READ = "import sys\nsys.stdin.read()\n" + PROGRAM
FORKED = "import os\nif (child := os.fork()):\n    os.waitpid(child, 0), os._exit(0)\n" + PROGRAM
NOT_READ = json.dumps([os.environ.get("PYTHONPATH"), [], None, []])


@pytest.mark.parametrize(
    ("words", "program", "environment"),
    [
        (["-E", "service.py"], PROGRAM, {}),
        (["service.py"], PROGRAM, {"GEMSTONE_MONKEY_PATCH": "late"}),
        pytest.param(["service.py"], TRACED, {}, marks=pytest.mark.slow),
        (["service.py"], IN_A_FUNCTION, {}),
        (["service.py"], WITH_A_CHILD, {}),
        (["service.py"], WITH_A_HUB, {}),
        (["service.py"], ELSEWHERE, {}),
        (["service.py"], HAS_READ, {}),
        (["service.py"], FORKED, {}),
        (["service.py"], PROGRAM, {"_GEMSTONE_SYNC_STARTED_OVER": NOT_READ}),
    ],
    ids=[
        *("-E", "late", "traced", "in a function", "a child", "a hub", "another directory"),
        *("input", "a daemon", "sitecustomize not read"),
    ],
)
def test_where_it_cannot_be_it_is_patched_late_and_says_what_breaks(
    tmp_path, words, program, environment
):
    told = run(tmp_path, *words, program=program, **environment)

    assert not told["patched first"]
    assert told["pid"] == told["started"] or program is FORKED
    assert told["environment"].keys() <= {"PYTHONPATH", "GEMSTONE_MONKEY_PATCH"}
    assert "__main__.local is older than gevent's patch" in told["stderr"]


HELLO = """
import json
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "s"

from gemstone_sync.concurrency import has_started_over
print(json.dumps({"over": has_started_over()}))
"""


def test_a_program_that_imports_nothing_else_goes_on(tmp_path):
    without_code = "import sys, types\nsys.modules['nspkg'] = types.ModuleType('nspkg')\n"

    assert not run(tmp_path, "service.py", program=without_code + HELLO)["over"]
    assert run(tmp_path, "service.py", program="import weight" + HELLO)["over"]


SPEAKING = """
{above}
import gemstone_sync
print("after", flush=True)
import weight

class Service(gemstone_sync.MicroService):
    name = "s"

from gemstone_sync.concurrency import has_started_over
print(has_started_over())
"""


@pytest.mark.parametrize(
    ("above", "printed"),
    [
        ("", ["after", "True"]),
        ("print('before')", ["before", "after", "True"]),
        ("print('before', flush=True)", ["before", "after", "False"]),
        ("import os; os.write(1, b'before\\n')", ["before", "after", "False"]),
        ("import sys; sys.stderr.write('')", ["after", "False"]),
        ("with open('log.txt', 'a') as log: log.writelines(['begun'])", ["after", "False"]),
    ],
    ids=["nothing", "buffered", "flushed", "past the buffer", "to stderr", "to a file"],
)
def test_what_a_program_prints_it_prints_once(run_python, tmp_path, above, printed):
    """A program that imports weight is started over where it imports gemstone_sync already."""
    (tmp_path / "weight.py").touch()

    done = run_python(SPEAKING.format(above=above), PYTHONUNBUFFERED="")

    assert done.stdout.split() == printed, done.stderr


#: What launchers and programs do to their environment, descriptors and name.
CHANGED = """
import json, os, sys
secret = os.environ.pop("SECRET")
os.environ["GROWS"] = os.environ.get("GROWS", "") + "x"
handed_over = os.get_inheritable(3)
os.set_inheritable(3, False)
import weight
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "s"

from gemstone_sync.concurrency import has_started_over
print(json.dumps({
    "over": has_started_over(),
    "secret": secret,
    "grown": os.environ["GROWS"],
    "handed over": handed_over,
    "command": open("/proc/self/cmdline").read().split(chr(0)),
    "name": open("/proc/self/comm").read().strip(),
    "chain": sys.modules["sitecustomize"].ran,
}))
"""

#: As that of opentelemetry-instrument: what it starts is not to be instrumented. And as that of
#: ddtrace-run: it must not be patched yet.
LAUNCHER = """
import os, sys
assert "gevent" not in sys.modules and "_GEMSTONE_SYNC_STARTED_OVER" not in os.environ
folder = os.path.dirname(__file__)
os.environ["PYTHONPATH"] = os.environ["PYTHONPATH"].replace(folder + os.pathsep, "")
ran = True
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="what /proc knows, on Linux")
def test_it_begins_with_the_environment_descriptors_and_name_that_it_had(tmp_path):
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "sitecustomize.py").write_text(LAUNCHER)
    (tmp_path / "weight.py").touch()
    script = tmp_path / "service.py"
    script.write_text(f"#!{sys.executable}\n{CHANGED}")
    script.chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "launcher"), os.environ.get("PYTHONPATH", "")])
    systemd = "export LISTEN_PID=$$ LISTEN_FDS=1; exec env =nameless ./service.py 3</dev/null"

    done = subprocess.run(
        ["sh", "-c", systemd],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "SECRET": "s"},
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
    )

    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "over": True,
        "secret": "s",
        "grown": "x",
        "handed over": True,
        "command": [sys.executable, "./service.py", ""],
        "name": "service.py",
        "chain": True,
    }


#: A loader of one's own, as ddtrace and others wrap all of them.
LOADED = """
import importlib.abc, importlib.machinery, sys

class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if name == "service":
            spec.loader = Loader(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder())
import service
"""


def test_a_loader_of_ones_own_is_part_of_an_import(tmp_path):
    (tmp_path / "main.py").write_text(LOADED)

    assert run(tmp_path, "main.py")["patched first"]


def test_a_working_directory_that_is_gone_changes_nothing(tmp_path):
    (tmp_path / "gone").mkdir()
    (tmp_path / "service.py").write_text("import weight" + HELLO)
    (tmp_path / "weight.py").touch()

    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", sys.executable, str(tmp_path / "service.py")],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
    )

    assert (done.returncode, done.stderr) == (0, "")


#: Sends itself a signal between its two beginnings, when it may not notice.
SIGNALLED = """
import os, signal
import flask

def execve(*arguments, replaced=os.execve):
    os.kill(os.getpid(), signal.SIGTERM)
    replaced(*arguments)

os.execve = execve
import gemstone_sync
gemstone_sync.MicroService
print("went on")
"""


def test_a_signal_that_comes_meanwhile_is_obeyed(run_python):
    done = run_python(SIGNALLED)

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


@pytest.mark.slow  # some ten programs
def test_random_starts_are_as_if_the_program_patched_itself():
    command = [sys.executable, "-m", "tests.concurrency.random_starts", "--count", "4"]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
