"""Start random programs in random ways, and hold each against the same one that patches itself.

    python -m tests.concurrency.random_starts --count 200 --seed 1

A start is a kind of program (script, package, zip, …) x what it does above the first service-side
name x flags, variables, descriptors, limits and wrappers. It is right if the PID stays, a
supervisor that polls ``/proc`` sees no other command and no end, and everything that the program
tells of itself equals what it tells with ``import gemstone_sync.patch`` as its first line; and if a
signal that is sent at a random moment does what it does to any program.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pty
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 100.0

#: What stands above the first service-side name. None of it may be seen to happen twice.
PRELUDES = {
    "imports": "import requests, flask, msgspec, logging.config, concurrent.futures",
    "a secret": "secret = os.environ.pop('SECRET')",
    "a variable": "os.environ['GROWS'] = os.environ.get('GROWS', '') + 'x'",
    "a path": "sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))"
    " if '__file__' in globals() else None",
    "arguments": "sys.argv.append('more')",
    "a print": "print('once')",
    "a mask": "os.umask(0o077)",
    "handlers": "signal.signal(signal.SIGUSR2, lambda *event: None)",
    "ignored": "signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
    "a thread": "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
    "a lock file": "locked = open(os.environ['LOCKED'], 'w'); fcntl.flock(locked, fcntl.LOCK_EX"
    " | fcntl.LOCK_NB)",
    "a port": "bound = socket.create_server(('127.0.0.1', int(os.environ['BOUND'])))",
    "a locale": "locale.setlocale(locale.LC_ALL, 'C')",
    "logging": "logging.basicConfig(level='INFO')",
    "recursion": "sys.setrecursionlimit(3000)",
    "start method": "multiprocessing.set_start_method('spawn')",
    "an exit handler": "atexit.register(lambda: print('at exit'))",
    "limits": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "an executor": "pool = concurrent.futures.ThreadPoolExecutor(1); pool.submit(int).result()",
}

#: Where the patch comes first in the one that is compared with, and nothing in the others.
SOURCE = """{first}
import atexit, concurrent.futures, fcntl, json, locale, logging, multiprocessing, os, resource
import signal, socket, sys, threading, time
import weight
local = threading.local()
{above}
import gemstone_sync
{below}

class Service(gemstone_sync.MicroService):
    name = "s"

def report():
    import gevent
    gevent.spawn(setattr, local, "seen", True).join()
    proc = "/proc/self/"
    status = dict(line.split(":", 1) for line in open(proc + "status"))
    descriptors = dict()
    for number in map(int, os.listdir(proc + "fd")):
        try:
            target = os.readlink(proc + f"fd/{{number}}")
        except OSError:
            continue
        if os.get_inheritable(number):
            descriptors[number] = target.partition(":[")[0].rstrip("0123456789")
    modules = vars(sys.modules["__main__"])
    return dict(
        first=not hasattr(local, "seen"),
        argv=sys.argv, orig=sys.orig_argv, executable=sys.executable, prefix=sys.prefix,
        name=__name__, package=__package__, file=modules.get("__file__"),
        spec=getattr(modules.get("__spec__"), "name", None), path=sys.path, flags=str(sys.flags),
        options=str(sys._xoptions), warn=sys.warnoptions, encoding=sys.stdin and sys.stdin.encoding,
        environment={{k: v for k, v in os.environ.items() if k not in ("LISTEN_PID", "_", "")}},
        cwd=os.getcwd(), umask=os.umask(0), nice=os.nice(0), sid=os.getsid(0) == os.getpid(),
        group=os.getpgid(0) == os.getpid(), limits=resource.getrlimit(resource.RLIMIT_NOFILE),
        ignored=status["SigIgn"], blocked=status["SigBlk"], name_of_kernel=status["Name"],
        descriptors=descriptors, listen=os.environ.get("LISTEN_PID") in (None, str(os.getpid())),
        handed=socket.socket(fileno=int(os.environ["HANDED"])).getsockname()[0],
        stdin=sys.stdin and not sys.stdin.closed and os.environ.get("READS") and sys.stdin.read(),
        pid=os.getpid(),
    )

if __name__ == "__main__":
    if os.environ.get("SPAWNS"):
        context = multiprocessing.get_context("spawn")
        queue = context.SimpleQueue()
        process = context.Process(target=weight.child, args=(queue,))
        process.start()
        process.join()
        print("from", *([] if process.exitcode else queue.get()), process.exitcode)
    print("middle")
    with open(os.environ["REPORT"] + "~", "w") as file:
        json.dump(report(), file)
    os.rename(file.name, os.environ["REPORT"])
    print("end")
    sys.stdout and sys.stdout.flush()
    while os.environ.get("WAITS"):
        signal.pause()
"""

#: What a spawned child does: its main module may be one that multiprocessing cannot import.
CHILD = "def child(queue):\n    queue.put(['child', __name__])\n"

#: What the main module cannot do while its parent has done it.
NOT_IN_A_CHILD = {"a secret", "a lock file", "a port", "start method"}


@dataclasses.dataclass
class Start:
    """One way to start one program; what `choose` has thrown the dice for."""

    kind: str
    flags: list[str]
    preludes: list[str]
    below: list[str]
    arguments: list[str | bytes]
    environment: dict[str, Any]
    wrapper: str
    python: str
    stdin: str
    stdout: str
    umask: int
    limit: int
    new_session: bool
    port: int
    signal: tuple[str, str, float] | None

    def __str__(self) -> str:
        return " ".join(f"{k}={str(v)[:400]}" for k, v in dataclasses.asdict(self).items() if v)


KINDS = [
    *("script", "absolute script", "symlink", "shebang", "odd path", "folder", "zip"),
    *("-m module", "-m package", "-m dotted", "-c", "console script"),
]
FLAGS = [["-W", "ignore::ImportWarning"], ["-X", "faulthandler"], ["-X", "utf8"], ["-O"], ["-OO"]]
FLAGS += [["-u"], ["-B"], ["-s"], ["-bb"], ["-Xint_max_str_digits=0"], ["-q"], ["-R"]]
VARIABLES: list[dict[str, Any]] = [
    *({"PYTHONHASHSEED": "0"}, {"PYTHONUTF8": "1"}, {"LC_ALL": "C"}, {"PYTHONUNBUFFERED": "1"}),
    *(
        {"EMPTY": ""},
        {b"BY\xffTES": b"\xfe\xff"},
        {"EXOTIC": "=a\nb=\u2603"},
        {"LONG": "x" * 99999},
    ),
    *({"PYTHONSTARTUP": "/nowhere.py"}, {"PYTHONNOUSERSITE": "1"}, {"PYTHONINSPECT": ""}),
    *({"PYTHONPYCACHEPREFIX": "/tmp/random_starts"}, {"SPAWNS": "1"}, {"READS": "1"}),
    *({"BASH_FUNC_f%%": "() { :; }"}, {"PWD": "/nowhere"}, {"TERM": ""}),
]
ARGUMENTS: list[str | bytes] = [
    "a",
    "",
    "with blank",
    "-c",
    "--",
    "-m",
    "\u2603",
    b"\xff\xfe",
    "x" * 5000,
]
WRAPPERS = ["", "", "nohup", "nice", "setsid", "env", "sh", "systemd"]
PYTHONS = ["", "", "in PATH", "relative", "linked venv"]
STDINS = ["null", "pipe", "file", "pty", "closed"]
STDOUTS = ["pipe", "file", "pty", "null"]
SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGWINCH", "SIGALRM", "SIGRTMIN"]


def choose(dice: random.Random) -> Start:
    """Throw the dice."""

    def some(of: Any, most: int) -> list[Any]:
        return dice.sample(list(of), dice.randint(0, most))

    sent = None
    if dice.random() < 0.5:
        sent = (
            dice.choice(SIGNALS),
            dice.choice(["default"] * 3 + ["ignored", "blocked"]),
            dice.random(),
        )
    wrapper = dice.choice(WRAPPERS)
    environment = {k: v for one in some(VARIABLES, 4) for k, v in one.items()}
    if sent:
        environment.pop("SPAWNS", None)  # multiprocessing itself unblocks signals
    elif dice.random() < 0.3:
        environment["SPAWNS"] = "1"
    return Start(
        kind=dice.choice(KINDS),
        flags=[word for words in some(FLAGS, 3) for word in words],
        preludes=some(PRELUDES, 4),
        below=some(PRELUDES, 1),
        arguments=some(ARGUMENTS, 4),
        environment=environment,
        wrapper=wrapper,
        python=dice.choice(PYTHONS),
        stdin=dice.choice(STDINS),
        stdout=dice.choice(STDOUTS[: 2 if wrapper == "nohup" else None]),  # that leaves a terminal
        umask=dice.choice([0o022, 0o027, 0o002]),
        limit=dice.choice([256, 1024, 4096]),
        new_session=dice.random() < 0.5 and wrapper != "setsid",  # or that forks
        port=dice.randint(20000, 30000),
        signal=sent,
    )


def lay_out(start: Start, folder: Path, first: str) -> list[str]:  # noqa: C901  # a table
    """Write the program into a folder; returns the words that name it, after those of Python."""
    (folder / "weight.py").write_text(CHILD)
    below = [name for name in start.below if name not in start.preludes]
    source = SOURCE.format(
        first=first,
        above="\n".join(PRELUDES[name] for name in start.preludes),
        below="\n".join(PRELUDES[name] for name in below),
    )
    packaged = folder / "pack" / "age"
    packaged.mkdir(parents=True)
    for file in (folder / "pack" / "__init__.py", packaged / "__init__.py"):
        file.write_text("")
    for file in (folder / "service.py", packaged / "__main__.py", packaged / "part.py"):
        file.write_text(source)
    match start.kind:
        case "absolute script":
            return [str(folder / "service.py")]
        case "symlink":
            (folder / "link").symlink_to("service.py")
            return ["./link"]
        case "odd path":
            odd = folder / "with blank \u2603 -c"
            odd.mkdir()
            shutil.copy(folder / "weight.py", odd)
            shutil.copy(folder / "service.py", odd / "a b.py")
            return [f"{odd.name}/a b.py"]
        case "folder":
            shutil.copy(folder / "weight.py", packaged)
            return ["pack/age"]
        case "zip":
            with zipfile.ZipFile(folder / "service.pyz", "w") as file:
                file.writestr("__main__.py", source)
                file.writestr("weight.py", CHILD)
            return ["service.pyz"]
        case "-m module":
            return ["-m", "service"]
        case "-m package":
            return ["-m", "pack.age"]
        case "-m dotted":
            return ["-m", "pack.age.part"]
        case "-c":
            return ["-c", source]
        case "console script":  # the service is in a module that the script imports
            guard = 'if __name__ == "__main__":'
            (folder / "service.py").write_text(source.replace(guard, "def main():"))
            (folder / "command").write_text(
                f"import sys\nfrom service import main\n{guard}\n    sys.exit(main())\n"
            )
            return ["command"]
    return ["service.py"]


def command_of(start: Start, folder: Path, words: list[str]) -> list[Any]:
    """Put Python, its flags and a wrapper ahead."""
    python = sys.executable
    if start.python == "in PATH":
        python = Path(python).name
    elif start.python == "relative":
        python = os.path.relpath(python, folder)
    elif start.python == "linked venv" and sys.prefix != sys.base_prefix:
        (folder / "venv").symlink_to(sys.prefix)
        python = str(folder / "venv" / "bin" / "python")
    command = [python, *start.flags, *words]
    if start.kind == "shebang":
        line = " ".join([str(Path(sys.executable)), *start.flags[:1]]).rstrip()
        if start.flags[:1] and start.flags[0] in ("-W", "-X"):
            line = sys.executable
        script = folder / "service.py"
        script.write_text(f"#!{line}\n" + script.read_text())
        script.chmod(0o755)
        command = ["./service.py"]
    wrapped = {
        "nohup": ["nohup"],
        "nice": ["nice", "-n", "3"],
        "setsid": ["setsid"],
        "env": ["env", "ADDED=1", "=nameless"],
        "sh": ["sh", "-c", 'exec "$0" "$@"'],
        "systemd": ["sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@"'],
    }
    return [*wrapped.get(start.wrapper, []), *command, *start.arguments]


class Supervised:
    """A program that was started, and what a supervisor sees of it until it ends."""

    def __init__(self, start: Start, folder: Path, first: str = "") -> None:
        self.start, self.folder = start, folder
        self.command = command_of(start, folder, lay_out(start, folder, first))
        self.seen: set[tuple[bytes, ...]] = set()
        self.out = b""
        listener = socket.create_server(("127.0.0.1", 0))
        environment: dict[Any, Any] = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GEMSTONE"))},
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{folder}",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SECRET": "s", "LOCKED": "locked", "REPORT": str(folder / "report"), "HANDED": "3",
            "BOUND": str(start.port),
            **start.environment,
        }  # fmt: skip
        if start.signal:
            environment["WAITS"] = "1"
        streams, ends = self._streams()
        handed = listener.fileno()

        def prepare() -> None:
            os.dup2(handed, 3)
            for number in (signal.SIGINT, signal.SIGHUP):  # ignored in the background
                signal.signal(number, signal.SIG_DFL)
            os.umask(start.umask)
            resource.setrlimit(resource.RLIMIT_NOFILE, (start.limit, 4096))
            if start.stdin == "closed":
                os.close(0)
            if start.signal:
                number = getattr(signal, start.signal[0])
                if start.signal[1] == "ignored":
                    signal.signal(number, signal.SIG_IGN)
                elif start.signal[1] == "blocked":
                    signal.pthread_sigmask(signal.SIG_BLOCK, [number])

        self.process = subprocess.Popen(
            self.command, cwd=folder, env=environment, preexec_fn=prepare, pass_fds=[3, handed],
            start_new_session=start.new_session, **streams,
        )  # fmt: skip
        listener.close()
        self._readers = [threading.Thread(target=self._read, args=(end,)) for end in ends[:1]]
        for reader in self._readers:
            reader.start()
        for stream in streams.values():
            if isinstance(stream, int) and stream > 2:
                os.close(stream)
        self._others = ends[1:]

    def _streams(self) -> tuple[dict[str, Any], list[int]]:
        """Make the standard streams; and our ends, of stdout first."""
        start, folder = self.start, self.folder
        ends: list[int] = []
        streams: dict[str, Any] = {"stderr": (folder / "stderr").open("wb")}
        match start.stdout:
            case "pipe":
                end, streams["stdout"] = os.pipe()
                ends.append(end)
            case "pty":
                end, streams["stdout"] = pty.openpty()
                ends.append(end)
            case "file":
                streams["stdout"] = (folder / "stdout").open("ab")
            case "null":
                streams["stdout"] = subprocess.DEVNULL
        if not ends:
            ends.append(-1)
        match start.stdin:
            case "pipe":
                streams["stdin"], end = os.pipe()
                os.write(end, b"of the pipe\n")
                os.close(end)
            case "file":
                (folder / "stdin").write_text("skipped\nof the file\n")
                file = (folder / "stdin").open("rb", buffering=0)
                file.seek(8)
                streams["stdin"] = file
            case "pty" if not start.environment.get("READS"):
                end, streams["stdin"] = pty.openpty()
                ends.append(end)
            case _:
                streams["stdin"] = subprocess.DEVNULL
        return streams, ends

    def _read(self, end: int) -> None:
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            while end >= 0 and (data := os.read(end, 65536)):
                self.out += data

    def watch(self, until: float) -> bool:
        """Poll the process as a supervisor does, until it ends or for some seconds."""
        end = time.monotonic() + until
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                words = tuple(Path(f"/proc/{self.process.pid}/cmdline").read_bytes().split(b"\0"))
                self.seen.add(words)
            if self.process.poll() is not None:
                return True
            time.sleep(0.005)
        return False

    def end(self) -> dict[str, Any]:
        """Tell what is known of it, now that it has ended."""
        for reader in self._readers:
            reader.join(5)
        for end in self._others:
            os.close(end)
        if self.start.stdout == "file":
            self.out = (self.folder / "stdout").read_bytes()
        report = self.folder / "report"
        told = json.loads(report.read_text()) if report.exists() else {}
        return {
            "out": self.out,
            "err": (self.folder / "stderr").read_text(errors="replace"),
            **told,
        }


def run(start: Start, folder: Path, first: str = "", moment: float | None = None) -> dict[str, Any]:
    """Run it to its end, or until it has reported and its signal has been dealt with.

    :param moment: seconds until the signal.
    """
    folder.mkdir()
    program = Supervised(start, folder, first)
    begin, took = time.monotonic(), 0.0
    report = folder / "report"
    try:
        if start.signal is None:
            assert program.watch(LIMIT), "it does not end"
        else:
            ended = False
            if moment is not None:
                ended = program.watch(moment)
                program.process.send_signal(getattr(signal, start.signal[0]))
            while not ended and not (report.exists() and b"end" in _output(program)):
                assert time.monotonic() - begin < LIMIT, "it does not report"
                ended = program.watch(0.01)
            took = time.monotonic() - begin
            if not ended and moment is not None and _is_deadly(start):
                assert program.watch(LIMIT), f"{start.signal[0]} does not end it"
            elif not ended:
                program.process.kill()
                program.watch(LIMIT)
    finally:
        program.process.kill()
        program.process.wait()
    told = program.end()
    return {"code": program.process.returncode, "seen": program.seen, "took": took, **told,
            "same pid": told.get("pid", program.process.pid) == program.process.pid}  # fmt: skip


def _output(program: Supervised) -> bytes:
    if program.start.stdout == "pipe" or program.start.stdout == "pty":
        return program.out
    return b"end"


def _is_deadly(start: Start) -> bool:
    name, disposition, _ = start.signal or ("", "", 0)
    if name == "SIGHUP" and start.wrapper == "nohup":
        return False
    return disposition == "default" and name not in ("SIGCHLD", "SIGWINCH")


def _has_spoken(start: Start) -> bool:
    unbuffered = "-u" in start.flags or start.environment.get("PYTHONUNBUFFERED")
    return "a print" in start.preludes and bool(start.stdout == "pty" or unbuffered)


def differences(start: Start, folder: Path) -> list[str]:
    """Run a program and what it is compared with; list in what they differ."""
    ordinary = run(start, folder / "ordinary", "import gemstone_sync.patch")
    moment = start.signal[2] * ordinary["took"] * 1.2 if start.signal else None
    found = run(start, folder / "over", "", moment)
    faults = [] if found["same pid"] else ["another PID"]
    commands = {words for words in found["seen"] if b"python" in words[0] or b"service" in words[0]}
    if start.wrapper == "" and len(commands) > 1 + (start.kind == "shebang"):
        faults.append(f"the command changed: {commands}")
    fails = not NOT_IN_A_CHILD.isdisjoint(start.preludes + start.below)
    if "SPAWNS" in start.environment and start.stdout != "null" and not fails:
        faults += [] if b"from child weight 0" in found["out"] else ["a child has failed"]
    died = start.signal is not None and found["code"] == -getattr(signal, start.signal[0])
    if died:
        if not _is_deadly(start):
            faults.append(f"died of {start.signal}")
        return faults
    apart = {"seen", "took", "pid", *(["orig"] if start.kind == "-c" else [])}
    if _has_spoken(start):  # it is patched late, and may warn
        apart |= {"first", "err"}
    if "SPAWNS" in start.environment and not {"an executor", "a thread"}.isdisjoint(start.preludes):
        apart.add("err")  # so are the children of multiprocessing
    for what in sorted(ordinary.keys() - apart):
        here, there = (
            json.dumps(told.get(what), default=repr).replace(str(folder / place), "HERE")
            for told, place in ((ordinary, "ordinary"), (found, "over"))
        )
        if here != there:
            faults.append(f"{what}: {here[-800:]} with the patch ahead, {there[-800:]} here")
            if what in ("code", "err"):
                break
    return faults


def main() -> None:
    """Start programs, and print what was wrong with each, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one start")
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    wrong = 0
    for number in range(options.count) if options.only is None else [options.only]:
        start = choose(random.Random(f"{options.seed} {number}"))
        with tempfile.TemporaryDirectory() as folder:
            try:
                faults = differences(start, Path(folder))
            except AssertionError as error:
                faults = [str(error)]
        kinds[start.kind] += 1
        if faults:
            wrong += 1
            print(f"{number}: {start}", *faults, sep="\n    ", flush=True)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{sum(kinds.values())} starts, {wrong} wrong ({listed})")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
