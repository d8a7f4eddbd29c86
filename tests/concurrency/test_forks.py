"""What runs in a forked child before it goes on: hooks of libraries, and none of its parent's."""

import json
from collections.abc import Callable
from typing import Any

import pytest

HOOK = "import os, threading; os.register_at_fork(after_in_child=lambda: hooks[0]())"
PROGRAM = """
import gemstone_sync.patch
import json, multiprocessing, os, socket, subprocess, sys, threading, time
import gevent

parent = os.getpid()
lock, queue = threading.Lock(), []
near, far = socket.socketpair()
strange = os.memfd_create("strange")

def begin_thread():
    threading.Thread(target=lambda: None).start()

def start_program():
    hooks[0] = time.time
    subprocess.run(["true"])

hooks = [time.time]
HOOK

def count_turns_in_children():
    while True:
        gevent.sleep(0.001)
        if os.getpid() != parent:
            os.write(strange, b"x")

def hold_lock():
    with lock:
        time.sleep(1000)

def run(n, **more):
    words = ["sh", "-c", f"sleep 0.01; echo {n}"]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, **more).stdout

def with_open_files(n):
    return run(n, close_fds=False)

def with_preexec(n):
    return run(n, preexec_fn=lambda: time.sleep(0.01))

def forked(n, fork=os.fork):
    reader, writer = os.pipe()
    pid = fork()
    if pid == 0:
        time.sleep(0.01)
        os.write(writer, b"%d\\n" % n)
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    return os.read(reader, 100).decode()

def forked_with_terminal(n):
    return forked(n, lambda: os.forkpty()[0])

def forked_and_executed(n):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.execvp("echo", ["echo", str(n)])
    assert os.waitpid(pid, 0) == (pid, 0)
    return os.read(reader, 100).decode()

def posix_spawned(n):
    reader, writer = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
    pid = os.posix_spawnp("echo", ["echo", str(n)], os.environ, file_actions=actions)
    assert os.waitpid(pid, 0) == (pid, 0)
    return os.read(reader, 100).decode()

def multiprocessing_pool(n):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply("{}\\n".format, (n,))

gevent.spawn(count_turns_in_children)
gevent.spawn(hold_lock)
start = globals()[sys.argv[1]]
for hook in (
    begin_thread,
    START_PROGRAM
    lambda: time.sleep(0.01),
    lambda: lock.acquire(timeout=0.01),
    lambda: threading.Event().wait(0.01),
    lambda: near.sendall(b"in the child"),
):
    hooks[0] = hook
    greenlets = [gevent.spawn(start, n) for n in range(3)]
    gevent.joinall(greenlets, timeout=20)
    print(json.dumps([one.value for one in greenlets]))
print(os.fstat(strange).st_size)
sys.stdout.flush()
os._exit(0)
"""

STARTS = [
    "run",
    "with_open_files",
    "with_preexec",
    "forked",
    "forked_with_terminal",
    "forked_and_executed",
    "posix_spawned",
    "multiprocessing_pool",
]


@pytest.mark.parametrize("is_older", [False, True], ids=["newer", "older"])
@pytest.mark.parametrize("start", STARTS)
def test_what_hooks_wait_for_lets_no_greenlet_of_the_parent_run_in_a_child(
    run_python: Callable[..., Any], start: str, is_older: bool
) -> None:
    # A program is watched by what gevent does in a child only after older hooks.
    hooks = {"HOOK": "", "START_PROGRAM": ""} if is_older else {"START_PROGRAM": "start_program,"}
    source = PROGRAM
    for name, text in {"HOOK": HOOK, **hooks}.items():
        source = source.replace(name, text)
    ended = run_python(f"{HOOK}\n{source}" if is_older else source, start)
    *answers, strange = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (answers, strange) == ([["0\n", "1\n", "2\n"]] * (5 if is_older else 6), 0), ended.stderr
