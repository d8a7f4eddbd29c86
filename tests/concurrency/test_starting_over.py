"""A program is patched from its first line, however it is started, or goes on as it is."""

import json
import os
import signal
import subprocess
import sys

import pytest

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
    inherited = {k: v for k, v in os.environ.items() if k != "GEMSTONE_MONKEY_PATCH"}
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
    ],
    ids=" ".join,
)
def test_a_program_is_patched_from_its_first_line(tmp_path, words):
    """In the same process, with the same arguments, in the same environment."""
    told = run(tmp_path, *words)

    assert told["patched first"], "its thread-local is one for all greenlets"
    assert told["pid"] == told["started"]
    assert told["main"] == "__main__"
    assert told["argv"][1:] == [word for word in words if word in ("a", "--b")]
    assert told["spec"] == ("service" if "-m" in words else None)
    assert told["path"] in (str(tmp_path), "")
    assert told["environment"] == {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}
    assert told["stderr"] == ""


IN_A_FUNCTION = PROGRAM.replace(
    "class Service", "def use():\n    return gemstone_sync.MicroService\nuse()\n\nclass Service"
)
WITH_A_CHILD = (
    "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n" + PROGRAM + "child.kill()"
)
WITH_A_HUB = "import gevent\ngevent.sleep(0)\n" + PROGRAM
TRACED = "import sys\nsys.settrace(lambda *event: None)\n" + PROGRAM
ELSEWHERE = "import os\nos.chdir('/')\n" + PROGRAM


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
    ],
    ids=["-E", "late", "traced", "in a function", "a child", "a hub", "another directory"],
)
def test_where_it_cannot_be_it_is_patched_late_and_says_what_breaks(
    tmp_path, words, program, environment
):
    told = run(tmp_path, *words, program=program, **environment)

    assert not told["patched first"]
    assert told["pid"] == told["started"]
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
    assert not run(tmp_path, "service.py", program=HELLO)["over"]
    assert run(tmp_path, "service.py", program="import weight" + HELLO)["over"]


#: Sends itself a signal between its two beginnings, when it may not notice.
SIGNALLED = """
import os, signal
import flask
from gemstone_sync.concurrency import starting_over

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
