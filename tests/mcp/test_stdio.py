"""gemstone mcp: messages on standard streams, and nothing else there."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gemstone_sync import BearerTokenStrategy, MicroService, exposed_method
from gemstone_sync.testing import running_service
from tests.support.waiting import LIMIT, wait_until

from .subject import Subject
from .support import modern

# Slow: each starts a process that imports a service, and some a registry.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

NOISY = '''
print("while it is imported")
import os, subprocess, sys, time
import gemstone_sync

class Noisy(gemstone_sync.MicroService):
    name = "noisy"

    def on_service_start(self):
        self.started = True
        print("while it starts")

    def on_service_stop(self):
        print("while it stops")

    @gemstone_sync.exposed_method()
    def say(self, word: str) -> str:
        """Say a word."""
        print(word)
        os.write(1, b"by a library in C")
        subprocess.run(["echo", "by a child"])
        return f"{word} {self.started} {sys.stdin.read()!r}"

    @gemstone_sync.exposed_method(timeout=None)
    def sleep(self, seconds: float) -> str:
        """Sleep."""
        print("it sleeps")
        time.sleep(seconds)
        return "slept"

    @gemstone_sync.exposed_method(timeout=None)
    def wait(self, path: str) -> str:
        """Wait for a file."""
        while not os.path.exists(path):
            time.sleep(0.01)
        return "waited"

    @gemstone_sync.exposed_method()
    def repeat(self, count: int) -> str:
        """Say it so many times."""
        return "x" * count
'''


def gemstone_mcp(folder, messages, *words):
    """What it prints, read as JSON, and its stderr."""
    sent = b"".join(
        (m if isinstance(m, bytes) else json.dumps(m).encode()) + b"\n" for m in messages
    )
    done = subprocess.run(
        [sys.executable, "-m", "gemstone_sync", "mcp", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        input=sent,
        capture_output=True,
        timeout=3 * LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


@pytest.fixture
def noisy(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY)
    return tmp_path


def call(tool, arguments, id=1):
    return modern("tools/call", {"name": tool, "arguments": arguments}, id)


PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}


class Talk:
    """A client that waits for what happens between its messages."""

    def __init__(self, process, log):
        self.process = process
        self._log = log

    def send(self, *messages):
        for message in messages:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def wait_for(self, text):
        wait_until(lambda: text in self.stderr, f"{text!r} in the log", 3 * LIMIT)

    @property
    def stderr(self):
        return self._log.read_text()

    def end(self):
        """Wait for its end, which may come before it has begun; its exit code."""
        return self.process.wait(3 * LIMIT)


@contextlib.contextmanager
def talk(folder, source="noisy.py:Noisy", stdin=subprocess.PIPE, stdout=subprocess.PIPE):
    log = folder / "stderr.txt"
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "gemstone_sync", "mcp", source],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            bufsize=0,
        )
    with process:
        try:
            yield Talk(process, log)
        finally:
            process.kill()


def test_nothing_but_messages_goes_to_stdout(noisy):
    seen, stderr = gemstone_mcp(noisy, [call("say", {"word": "hello"})], "noisy.py:Noisy")
    assert [answer["result"]["structuredContent"] for answer in seen] == ["hello True ''"]
    for told in ("imported", "starts", "hello", "library in C", "a child", "stops"):
        assert told in stderr


def test_calls_run_at_once_and_a_cancelled_one_is_not_answered(noisy):
    cancel = {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": "never"},
    }
    messages = [
        call("sleep", {"seconds": 3600.0}, "never"),
        call("wait", {"path": str(noisy / "go")}, "late"),
        call("say", {"word": "now"}, "now"),
        cancel,
    ]
    with talk(noisy) as client:
        client.send(*messages)
        client.process.stdin.close()
        first = client.process.stdout.readline()
        (noisy / "go").touch()
        lines = [first, *client.process.stdout.read().splitlines()]
        assert client.end() == 0
    assert [json.loads(line)["id"] for line in lines] == ["now", "late"]


def test_answers_and_calls_without_an_id_are_not_answered(noisy):
    silent = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "say"}}
    result = {"jsonrpc": "2.0", "id": 7, "result": {}}
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "no"}}
    seen, _ = gemstone_mcp(noisy, [silent, result, error, PING], "noisy.py:Noisy")
    assert seen == [{"jsonrpc": "2.0", "id": 7, "result": {}}]


def test_a_call_with_the_word_initialize_in_it_holds_nobody_up(noisy):
    sleep = call("sleep", {"seconds": 3600.0}, "never")
    sleep["params"]["_meta"] = {**sleep["params"]["_meta"], "says": "initialize"}
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    cancel["params"] = {"requestId": "never"}
    seen, _ = gemstone_mcp(noisy, [sleep, PING, cancel], "noisy.py:Noisy")
    assert [answer["id"] for answer in seen] == [7]


def test_a_call_that_is_cancelled_is_no_fault(noisy):
    with talk(noisy) as client:
        client.send(call("sleep", {"seconds": 3600.0}, "never"))
        client.wait_for("it sleeps")
        client.send(
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": "never"},
            }
        )
        client.process.stdin.close()
        assert client.process.stdout.read() == b""
        assert client.end() == 0
        assert "Traceback" not in client.stderr


def test_what_is_half_written_is_finished_though_it_is_cancelled(noisy):
    with talk(noisy) as client:
        client.send(call("repeat", {"count": 1_000_000}, "long"))
        select.select([client.process.stdout], [], [])
        client.send(
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": "long"},
            },
            PING,
        )
        client.process.stdin.close()
        ids = [json.loads(line)["id"] for line in client.process.stdout.read().splitlines()]
        assert ids == ["long", 7]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_the_service_in_it(noisy, number):
    with talk(noisy) as client:
        client.send(call("sleep", {"seconds": 3600.0}))
        client.wait_for("it sleeps")
        client.process.send_signal(number)
        assert client.end() == 0
        assert client.process.stdout.read() == b""
        assert "while it stops" in client.stderr
        assert "Traceback" not in client.stderr


def test_it_ends_when_nobody_reads_any_more(noisy):
    with talk(noisy) as client:
        client.process.stdout.close()
        client.send(PING)
        assert client.end() == 0
        assert "while it stops" in client.stderr
        assert "Traceback" not in client.stderr


def test_it_ends_with_the_socket_that_editors_give_it(noisy):
    ours, theirs = socket.socketpair()
    with talk(noisy, stdin=theirs, stdout=theirs) as client:
        theirs.close()
        ours.sendall(json.dumps(PING).encode() + b"\n")
        select.select([ours], [], [])
        ours.close()  # with an answer that was not read: the other end's reading fails
        assert client.end() == 0
        assert "while it stops" in client.stderr
        assert "Traceback" not in client.stderr


def test_what_is_no_message_is_told_and_the_next_one_answered(noisy):
    messages = [b"{", b"[]", b"", b"x" * 11_000_000, {"jsonrpc": "2.0", "id": 7, "method": "ping"}]
    seen, _ = gemstone_mcp(noisy, messages, "noisy.py:Noisy")
    codes = [answer["error"]["code"] for answer in seen if "error" in answer]
    assert sorted(codes) == [-32700, -32600, -32600]
    assert {"jsonrpc": "2.0", "id": 7, "result": {}} in seen


def test_initialize_counts_for_what_follows(noisy):
    opening = {"protocolVersion": "2025-06-18", "capabilities": {}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    seen, _ = gemstone_mcp(noisy, messages, "noisy.py:Noisy")
    tools = {answer["id"]: answer for answer in seen}[2]["result"]["tools"]
    assert tools[0]["outputSchema"]["type"] == "object"


def test_a_wrong_class_is_one_line_and_exit_code_2(noisy):
    done = subprocess.run(
        [sys.executable, "-m", "gemstone_sync", "mcp", "noisy.py:Nosy"],
        cwd=noisy,
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=3 * LIMIT,
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"Noisy" in done.stderr


class Private(MicroService):
    name = "private"

    def api_token_is_valid(self, api_token: str) -> bool:
        return api_token == "right"

    @exposed_method(private=True)
    def secret(self) -> str:
        """Tell it."""
        return "told"


class PrivateToBearers(Private):
    validation_strategies = [BearerTokenStrategy()]


@pytest.mark.parametrize(
    ("service", "words", "told"),
    [
        (Private, (), None),
        (Private, ("--token", "right"), "told"),
        (PrivateToBearers, ("--token", "right"), "told"),
    ],
    ids=["none", "token", "bearer"],
)
def test_private_methods_want_a_token(tmp_path, service, words, told):
    with running_service(service) as running:
        seen, _ = gemstone_mcp(tmp_path, [call("secret", {})], running.url, *words)
    result = seen[0].get("result", {})
    assert result.get("structuredContent") == told


def test_the_services_of_a_registry_are_joined(tmp_path):
    from gemstone_sync import ServiceRegistry

    with running_service(ServiceRegistry) as registry:
        urls = {"service_registry_urls": [registry.url]}
        with running_service(Subject, **urls), running_service(Private, **urls):
            messages = [
                modern("tools/list"),
                call("subject_test_simple_text", {}, 2),
            ]
            wait_until(lambda: len(registry.list_services("*")) == 2, "both in the registry")
            words = ("--registry", registry.url, "--no-dots", "*")
            seen, _ = gemstone_mcp(tmp_path, messages, *words)
    answers = {answer["id"]: answer["result"] for answer in seen}
    names = [tool["name"] for tool in answers[1]["tools"]]
    assert "subject_move" in names
    assert all(name.startswith("subject_") for name in names)  # the private one wants a token
    assert answers[2]["structuredContent"].startswith("This is a simple text")
