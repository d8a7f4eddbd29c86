"""Processes of one parent that ask each other, by the status page's means."""

import os
import signal
import stat
import tempfile
from pathlib import Path

import pytest
from gevent import socket

from gemstone_sync.ops import shared_directory
from gemstone_sync.ops.siblings import Siblings
from tests.support.programs import program
from tests.support.waiting import wait_until

CHILD = """
import os, sys, time
from gemstone_sync.ops.siblings import Siblings

topic, hold = sys.argv[1:]
siblings = Siblings(topic, lambda: f"{topic} of {os.getpid()}".encode())
siblings.join(os.getppid())
print("joined", flush=True)
if hold == "hold":
    while True:  # and its hub does not run
        pass
import gevent
gevent.sleep(1000)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """This process: the parent of the others, in a directory with a long name."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    siblings = Siblings("status", lambda: b"mine")
    siblings.join(os.getpid())
    yield siblings
    siblings.leave()
    shared_directory.remove_directory(os.getpid())


def child(folder, topic="status", hold=""):
    return program(CHILD, folder, topic, hold)


def joined(*children):
    for each in children:
        each.wait_until(lambda each=each: "joined" in each.stdout, "it has joined")
    return [each.process.pid for each in children]


def test_all_are_asked_also_while_something_holds_their_hubs(mine, tmp_path):
    with child(tmp_path) as one, child(tmp_path, hold="hold") as other:
        pids = joined(one, other)
        wanted = {pid: f"status of {pid}".encode() for pid in pids}
        # A machine that is busy may need more than the second that they have.
        wait_until(lambda: mine.ask() == wanted, "both answers")


def has_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_one_that_stands_still_does_not_answer_and_one_that_was_killed_is_forgotten(mine, tmp_path):
    with child(tmp_path) as one:
        [pid] = joined(one)
        one.send_signal(signal.SIGSTOP)
        wait_until(lambda: has_stopped(pid), "its stop")
        assert mine.ask() == {pid: None}
        one.kill()
        assert mine.ask() == {}
    [left] = Path(mine._directory).iterdir()
    assert left.name.startswith(shared_directory.identity_of(os.getpid()))


def test_what_is_asked_of_others_is_another_thing(mine, tmp_path):
    with child(tmp_path, "something else") as one:
        joined(one)
        assert mine.ask() == {}


def test_sockets_lie_where_nobody_else_comes(mine):
    directory = Path(mine._directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    mine.leave()
    assert [*directory.iterdir()] == []
    assert mine.ask() == {}
    mine.join(os.getpid())  # as a service that starts again
    assert len([*directory.iterdir()]) == 1


def test_an_answer_that_cannot_be_made_is_none_and_the_next_one_comes(tmp_path, mine):
    # "second" for ever: one that comes too late is lost.
    made = 'answers.pop() if answers else b"second"'
    faulty = CHILD.replace('f"{topic} of {os.getpid()}".encode()', made).replace(
        "topic, hold", "answers = [None]\ntopic, hold"
    )
    with program(faulty, tmp_path, "status", "") as one:
        [pid] = joined(one)
        assert mine.ask() == {pid: None}
        wait_until(lambda: mine.ask() == {pid: b"second"}, "the next")


BIG = """
import os, sys
from gemstone_sync.ops.siblings import Siblings

siblings = Siblings("status", lambda: b"x" * int(sys.argv[1]))
siblings.join(os.getppid())
print("joined", flush=True)
import gevent
gevent.sleep(1000)
"""


def test_one_that_is_killed_while_it_answers_has_not_answered(mine, tmp_path, monkeypatch):
    with program(BIG, tmp_path, str(10_000_000)) as one:
        [pid] = joined(one)
        asked = socket.socket

        class Socket(asked):
            def recv(self, *size):
                if not hasattr(self, "part"):
                    self.part = super().recv(*size)  # much of the rest is not even sent yet
                    one.send_signal(signal.SIGKILL)
                    one.process.wait()
                    return self.part
                return super().recv(*size)

        monkeypatch.setattr(socket, "socket", Socket)
        assert mine.ask() == {pid: None}


def test_who_says_too_much_has_not_answered(mine, tmp_path):
    with program(BIG, tmp_path, str(20_000_000)) as one:
        [pid] = joined(one)
        assert mine.ask() == {pid: None}
