"""Bytecode instructions of one call: a cost that does not depend on the machine's mood.

    python tests/benchmarks/opcodes.py            # count, beside the committed figures
    python tests/benchmarks/opcodes.py --write    # commit the counts of this Python version
    python tests/benchmarks/opcodes.py --json
    python tests/benchmarks/opcodes.py --check    # what test_opcodes.py runs

Counted are the instructions that run in gemstone_sync's own frames (C code is not seen) during one
``add(a=1, b=2)`` when everything is warm. It is the same number in each run of one Python minor
version; versions differ, because their instructions do. `opcodes.json` holds the committed figures.

Two ways: ``dispatch`` is bytes to bytes in the dispatcher; ``request`` is the WSGI application of
the service from environ to reply: gate, endpoint, dispatcher.
"""

from __future__ import annotations

import argparse
import collections
import gc
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

FIGURES = Path(__file__).with_name("opcodes.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

BODY = b'{"jsonrpc":"2.0","method":"add","params":{"a":1,"b":2},"id":1}'
EXPECTED = b'{"jsonrpc":"2.0","result":3,"id":1}'
#: Times the committed figure.
MOST = 1.10
#: Runs before the one that counts: caches fill, and CPython specialises.
WARM = 50


def make_service() -> Any:
    """Return a service with every default on."""
    import gemstone_sync

    class Adder(gemstone_sync.MicroService):
        name = "benchmark.adder"

        @gemstone_sync.exposed_method()
        def add(self, a: int, b: int) -> int:
            return a + b

    return Adder()


def ways(service: Any) -> dict[str, Callable[[], bytes]]:
    """Return what is counted, by name; each answers one call."""
    from werkzeug.test import create_environ

    from gemstone_sync.dispatch import CallContext

    dispatch, application = service.dispatcher.dispatch, service.app.wsgi_app
    fields = {"User-Agent": "curl/7.88.1", "Accept": "*/*", "Content-Type": "application/json"}
    environ = create_environ("/api", "http://127.0.0.1:8000", method="POST", headers=fields)
    environ["CONTENT_LENGTH"] = str(len(BODY))
    environ["SERVER_SOFTWARE"] = "gemstone_sync"  # as in our own server

    def by_dispatch() -> bytes:
        return dispatch(BODY, CallContext(environ))

    def by_request() -> bytes:
        answers = application({**environ, "wsgi.input": io.BytesIO(BODY)}, start_response)
        return b"".join(answers)

    def start_response(status: str, headers: object) -> None:
        assert status == "200 OK"

    return {"dispatch": by_dispatch, "request": by_request}


def count(run: Callable[[], bytes]) -> collections.Counter[str]:
    """Return the instructions of one run by function."""
    found: collections.Counter[str] = collections.Counter()

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("gemstone_sync"):
            return None  # the callers of this frame and those it calls are asked on their own
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        name = f"{module.removeprefix('gemstone_sync.')}.{frame.f_code.co_name}"

        def trace_opcode(_frame: FrameType, event: str, _argument: object) -> Any:
            if event == "opcode":
                found[name] += 1
            return trace_opcode

        return trace_opcode

    before = sys.gettrace()
    gc.disable()  # what watches the collector is called in the middle
    sys.settrace(trace)
    try:
        answer = run()
    finally:
        sys.settrace(before)
        gc.enable()
    assert answer == EXPECTED, answer
    return found


def measure() -> dict[str, collections.Counter[str]]:
    """Return the counts of each way; they are the same again and again, or it is an error."""
    counts = {}
    for name, run in ways(make_service()).items():
        for _ in range(WARM):
            assert run() == EXPECTED
        # Python 3.12 puts its instruments into the code during the first runs that are traced.
        counts[name], *others = [count(run) for _ in range(6)][2:]
        if any(other != counts[name] for other in others):
            totals = [found.total() for found in (counts[name], *others)]
            raise RuntimeError(f"{name}: the count differs from run to run: {totals}")
    return counts


def committed() -> dict[str, dict[str, int]]:
    """Return the committed figures: by Python version, then by way."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def write(totals: dict[str, int]) -> None:
    """Put the figures of this version into the file."""
    figures = {**committed(), VERSION: totals}
    ordered = {key: figures[key] for key in sorted(figures, key=lambda v: int(v.split(".")[1]))}
    FIGURES.write_text(json.dumps(ordered, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the bytecode instructions of one call.")
    parser.add_argument("--json", action="store_true", help="print only the measured figures")
    parser.add_argument("--check", action="store_true", help="fail when there are more than 110%%")
    parser.add_argument("--write", action="store_true", help="commit them for this Python version")
    options = parser.parse_args()
    counts = measure()
    totals = {name: found.total() for name, found in counts.items()}
    if options.json:
        print(json.dumps(totals))
        return 0
    figures = committed().get(VERSION, {})
    for name, total in totals.items():
        figure = figures.get(name)
        beside = f"committed {figure}, {total / figure - 1:+.1%}" if figure else "none committed"
        print(f"Python {VERSION}: {name:9} {total:5} instructions ({beside})")
    if options.check:
        return int(any(total > MOST * figures[name] for name, total in totals.items()))
    if options.write:
        figures = {**committed(), VERSION: totals}
        ordered = {key: figures[key] for key in sorted(figures, key=lambda v: int(v.split(".")[1]))}
        FIGURES.write_text(json.dumps(ordered, indent=2) + "\n")
    else:
        for function, instructions in counts["request"].most_common():
            print(f"{instructions:5}  {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
