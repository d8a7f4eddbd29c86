"""A class typed at a prompt, or written beside an event loop, is started, called and stopped."""

import sys

import pytest

from tests.cli.terminal import CTRL_C, CTRL_D, Terminal
from tests.support.machine import free_port
from tests.support.programs import Program

CLASS = """class A(g.MicroService):
    name = "a"
    port = PORT
    @g.exposed_method()
    def hi(self, n): return "hi " + n
"""


def play(words, prompt, folder, *first):
    """Type a class, test it, start it, call it, stop it, start it again, leave."""
    port = free_port()
    with Terminal(sys.executable, *words, cwd=folder, columns=200) as terminal:

        def enter(line, *expected):
            terminal.enter(line)
            for text in (*expected, prompt):
                terminal.expect(text)

        terminal.expect(prompt)
        for line in (*first, "import gemstone_sync as g"):
            enter(line)
        enter(f"exec({CLASS.replace('PORT', str(port))!r})")
        enter("from gemstone_sync.testing import ServiceClient")
        enter("ServiceClient(A()).call('hi', 'test')", "'hi test'")
        enter("a = A(); a.start(block=False)")
        # A child asks, while the prompt waits for it natively.
        ask = f"import urllib.request as u; print(u.urlopen('{health(port)}').status, 'told')"
        enter(
            f"import os; os.spawnl(os.P_WAIT, {sys.executable!r}, 'p', '-c', {ask!r})", "200 told"
        )
        enter("g.RemoteService(a.url).methods.hi('here')", "'hi here'")
        enter("a.stop()")
        for _ in range(2):
            terminal.enter("a.start()")
            terminal.expect("a listens on")
            terminal.send(CTRL_C)
            terminal.expect("a stopped")
            terminal.expect(prompt)
        enter("a.start(block=False)")
        enter("40 + 2", "42")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0


def health(port):
    return f"http://127.0.0.1:{port}/health/live"


def test_pythons_prompt(tmp_path):
    play(["-q"], ">>> ", tmp_path)


@pytest.mark.slow  # each is a prompt of its own
@pytest.mark.parametrize(
    ("words", "prompt", "first"),
    [
        (["-q", "-i", "-c", "import flask"], ">>> ", ()),
        (["-m", "code"], ">>> ", ()),
        (["-m", "IPython", "--no-banner", "--no-confirm-exit"], r"In \[\d+\]: ", ()),
        (["-m", "IPython", "--no-banner", "--no-confirm-exit"], r"In \[\d+\]: ", ("%gui asyncio",)),
    ],
    ids=["-i", "code", "IPython", "IPython with a loop"],
)
def test_other_prompts(words, prompt, first, tmp_path):
    play(words, prompt, tmp_path, *first)


BESIDE_ASYNCIO = """
import asyncio

async def main():
    import gemstone_sync as g

    class A(g.MicroService):
        name = "a"
        port = 0

        @g.exposed_method()
        def hi(self, n): return "hi " + n

    a = A()
    a.start(block=False)
    client = g.RemoteService(a.url)
    # Each waits for a native thread, whose end an event loop that is patched late never hears of.
    print(await asyncio.to_thread(client.methods.hi, "thread"))
    child = await asyncio.create_subprocess_exec("true")
    print(await child.wait())
    a.stop()
    try:
        import gemstone_sync.patch
    except g.ServiceConfigurationError as error:
        print(error)
    try:
        a.start(workers=2)
    except g.ServiceConfigurationError as error:
        print(error)

asyncio.run(main())
"""


def test_an_event_loop_is_left_alone(run_python):
    done = run_python(BESIDE_ASYNCIO)
    called, child, patching, workers = done.stdout.splitlines()
    assert (called, child) == ("hi thread", "0")
    assert "would stop the event loop of asyncio" in patching
    assert "start it with `gemstone run`" in workers
    assert "not patched by gevent beside asyncio" in done.stderr


IN_IPYTHON = """
import gemstone_sync as g
class A(g.MicroService):
    name = "a"
    port = 0
    @g.exposed_method()
    def hi(self, n): return "hi " + n
a = A()
a.start(block=False)
print(g.RemoteService(a.url).methods.hi(str(a.max_hops)))
"""


@pytest.mark.slow  # IPython takes its time
@pytest.mark.parametrize(
    ("words", "hops"),
    [
        (["-c", IN_IPYTHON], 8),
        (["-c", "%run program.py --max_hops 3"], 3),
        (["program.py", "--", "--max_hops", "3"], 3),
    ],
    ids=["-c", "%run", "a file"],
)
def test_ipythons_words_are_not_the_services(tmp_path, words, hops):
    (tmp_path / "program.py").write_text(IN_IPYTHON)
    program = Program([sys.executable, "-m", "IPython", "--no-banner", *words], tmp_path)
    try:
        assert program.wait() == 0, program.stderr
        assert program.stdout.splitlines()[-1] == f"hi {hops}"
    finally:
        program.kill()
