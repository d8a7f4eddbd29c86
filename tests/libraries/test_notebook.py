"""A notebook's kernel lives on beside a service, which answers while cells run."""

import json
import subprocess
import sys

import pytest

from tests.conftest import PROGRAM_LIMIT
from tests.support.machine import absent
from tests.support.programs import REPOSITORY

pytestmark = pytest.mark.slow  # a kernel of its own

#: Runs the cells that it is given; prints what each has printed.
NOTEBOOK = """
import json, sys
import nbclient, nbformat

cells = json.loads(sys.argv[1])
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
printed = [
    "".join(out["text"] for out in cell.outputs if out.get("name") == "stdout")
    for cell in notebook.cells
]
print(json.dumps(printed))
"""

CLASS = """
import gemstone_sync as g

class A(g.MicroService):
    name = "a"
    port = 0

    @g.exposed_method()
    def hi(self, n): return "hi " + n
"""
INTERRUPT = """
import os, signal, threading, time

def interrupt(*services):
    while any(each.lifecycle.state.value != "running" for each in services):
        time.sleep(0.01)
    time.sleep(0.3)  # until they are waited for
    os.kill(os.getpid(), signal.SIGINT)

def soon(*services):
    threading.Thread(target=interrupt, args=services).start()
"""


@pytest.fixture
def run_cells(tmp_path):
    try:
        import ipykernel  # noqa: F401
        import nbclient  # noqa: F401
    except ImportError:
        absent("ipykernel and nbclient are not installed")

    def run(*cells):
        first = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})"
        (tmp_path / "notebook.py").write_text(NOTEBOOK)
        done = subprocess.run(
            [sys.executable, "notebook.py", json.dumps([first, *cells])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PROGRAM_LIMIT,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])[1:]

    return run


def test_a_class_in_a_cell_is_tested_started_and_called(run_cells):
    printed = run_cells(
        CLASS,
        "import gemstone_sync.testing as t; print(t.ServiceClient(A()).call('hi', 'test'))",
        "a = A(); a.start(block=False); c = g.RemoteService(a.url); print(c.methods.hi('x'))",
        "import asyncio\nprint(await asyncio.to_thread(c.methods.hi, 'await'))",
        "calls = [c.methods.hi.async_(n) for n in 'abc']\n"
        "print(sorted(call.result() for call in g.as_completed(*calls)))",
        "a.stop(); a.start(block=False)",
        "print(g.RemoteService(a.url).methods.hi('again')); a.stop()",
    )
    assert printed[1:] == [
        "hi test\n",
        "hi x\n",
        "hi await\n",
        "['hi a', 'hi b', 'hi c']\n",
        "",
        "hi again\n",
    ]


def test_the_kernels_interrupt_ends_a_service_and_not_the_kernel(run_cells):
    *_, started, together = run_cells(
        CLASS,
        INTERRUPT,
        "a = A(); soon(a); a.start()\nprint(a.lifecycle.state.value)",
        "class B(A): name = 'b'\na, b = A(), B(); soon(a, b); g.run(a, b)\nprint('alive')",
    )
    assert (started, together) == ("stopped\n", "alive\n")


def test_what_a_kernel_cannot_bear_is_refused(run_cells):
    *_, patching, workers = run_cells(
        CLASS,
        "try: import gemstone_sync.patch\nexcept g.GemstoneError as error: print(error)",
        "try: A().start(workers=2)\nexcept g.GemstoneError as error: print(error)",
    )
    assert "would stop the event loop of IPython" in patching
    assert "start it with `gemstone run`" in workers
