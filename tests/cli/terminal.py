"""A program in a terminal of its own: what it shows, keys for it, Ctrl-C.

Not on pexpect, whose forkpty Python 3.12 warns of in a process that has threads, and the event
loop's is one. Here the program gets its terminal in its own process.
"""

import codecs
import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from gevent.select import select

from tests.cli.support import GEMSTONE, environment
from tests.support.waiting import LIMIT

__all__ = ["CTRL_C", "CTRL_D", "TAB", "Terminal", "plain"]

CTRL_C, CTRL_D, TAB = "\x03", "\x04", "\t"

#: Makes the terminal the one that Ctrl-C is pressed in, and becomes the program.
_LAUNCHER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

#: Control sequences (ECMA-48): CSI, OSC and the two-character ones; at the end one that is not
#: complete yet.
_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][AB0]|[=>78MDEc])"
    r"|\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*)?\Z"
)


def plain(text: str) -> str:
    """Text without control sequences, bells and carriage returns."""
    return _SEQUENCES.sub("", text).replace("\a", "").replace("\r", "")


class Terminal:
    """A program that has a terminal; it is killed at the end of the block.

    :param words: the program and its words; ``gemstone`` is the installed one.
    :param columns, lines: the terminal's size.
    :param env: environment variables, beside those of the tests.
    :ivar raw: everything that it wrote, control sequences included.
    """

    def __init__(
        self,
        *words: str | Path,
        columns: int = 80,
        lines: int = 24,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.raw = ""
        self._seen = 0
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._is_open = True
        inherited = environment({"TERM": "xterm-256color"})
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            inherited.pop(name, None)
        # Shells find the command by its name.
        inherited["PATH"] = f"{GEMSTONE.parent}{os.pathsep}{inherited['PATH']}"
        self._terminal, program_side = os.openpty()
        fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, *map(str, words)],
                stdin=program_side,
                stdout=program_side,
                stderr=program_side,
                start_new_session=True,
                cwd=cwd,
                env={**inherited, **(env or {})},
            )
        except BaseException:
            os.close(self._terminal)
            raise
        finally:
            os.close(program_side)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        # Whatever else still runs in the terminal is hung up on.
        os.close(self._terminal)
        self.process.wait(LIMIT)

    @property
    def text(self) -> str:
        """Everything that it wrote, without control sequences."""
        return plain(self.raw)

    def expect(self, pattern: str, limit: float = LIMIT) -> re.Match[str]:
        """Wait until it has written something, after what was expected before.

        :param pattern: a regular expression over the text without control sequences.
        """
        end = time.monotonic() + limit
        while (found := re.search(pattern, self.text[self._seen :], re.M)) is None:
            assert self._read(end), f"waited for {pattern!r} in:\n{self.text}"
        self._seen += found.end()
        return found

    def send(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def enter(self, line: str) -> None:
        """Type a line."""
        self.send(f"{line}\r")

    def wait(self, limit: float = LIMIT) -> int:
        """Wait until it has ended; the exit code, or minus the signal that ended it."""
        end = time.monotonic() + limit
        while self._read(end):
            pass
        try:
            return self.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {limit} s:\n{self.text}") from None

    def _read(self, end: float) -> bool:
        """Read what there is; False at the end, of the program or of the time."""
        while self._is_open and (left := end - time.monotonic()) > 0:
            if not select([self._terminal], [], [], min(left, 0.2))[0]:
                continue
            try:
                data = os.read(self._terminal, 65536)
            except OSError:  # on Linux, EIO says that the other side is closed
                data = b""
            self._is_open = bool(data)
            self.raw += self._decode(data)
            return self._is_open
        return False
