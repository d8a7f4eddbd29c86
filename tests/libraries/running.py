"""A service around programs, in each order of imports and way to run; what became of two calls.

Two calls at once are right when each gets its own answer, other greenlets got their turn while
both were inside the library (counted, not timed), the process lives, says nothing it need not, and
ends at SIGTERM.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.http import call
from tests.support.machine import free_port
from tests.support.programs import REPOSITORY, Program, gunicorn
from tests.support.waiting import LIMIT, gather

from .rows import Row

PROGRAMS = Path(__file__).resolve().parent / "programs"

ORDERS = ("before", "after")
WAYS = ("file", "gemstone run", "our worker", "gevent worker")

#: How often others must get their turn while two calls are inside; one that blocks lets in none,
#: and one that waits for a moment in Python before and after blocking, two.
TURNS = 3

SERVICE = """
{before}
import gemstone_sync

class Host(gemstone_sync.MicroService):
    name = "host"
    host = "127.0.0.1"
    debug = True
    inside = turns = 0

    def on_service_start(self):
        import gevent
        gevent.spawn(self.count)

    def count(self):
        import gevent
        while True:
            gevent.sleep(0.01)
            self.turns += self.inside == 2

    @gemstone_sync.exposed_method()
    def work(self, name: str, n: int):
        work = sys.modules["with_" + name].work
        self.inside += 1
        self.turns *= self.inside > 1
        try:
            return work(n, *[self] * (work.__code__.co_argcount - 1))
        finally:
            self.inside -= 1

    @gemstone_sync.exposed_method()
    def turns_meanwhile(self):
        return self.turns

{after}
import sys
service = Host()

if __name__ == "__main__":
    service.start()
"""


class Outcome(NamedTuple):
    """What became of two calls; `told` says what is wrong, or what was warned of."""

    word: str
    told: str = ""

    @property
    def is_good(self) -> bool:
        return self.word in ("right", "warned", "refused")


@contextlib.contextmanager
def service(
    rows: Sequence[Row], order: str, way: str, folder: Path, checkout: Path, ports: str
) -> Iterator[Program]:
    """Run a service around the programs of these rows."""
    imports = "\n".join(f"import with_{row.program}" for row in rows)
    both = {"before": "", "after": "", order: imports}
    (folder / "service.py").write_text(SERVICE.format(**both))
    port = free_port()
    environment = {
        "PYTHONPATH": f"{checkout}:{PROGRAMS}",
        "PEERS": ports,
        "GEMSTONE_PORT": str(port),
        "GEMSTONE_MONKEY_PATCH": "1",
    }
    if "worker" in way:
        kind = {"our worker": "gemstone_sync.server.GunicornWorker", "gevent worker": "gevent"}
        with gunicorn("service:service", folder, "-k", kind[way], environment=environment) as run:
            yield run
        return
    commands = {
        "file": ["service.py"],
        "gemstone run": ["-m", "gemstone_sync", "run", "service:Host"],
    }
    run = Program([sys.executable, *commands[way]], folder, environment=environment)
    run.port = port
    try:
        yield run
    finally:
        run.kill()


def outcomes(
    rows: Sequence[Row],
    order: str,
    way: str,
    folder: Path,
    ports: str,
    checkout: Path = REPOSITORY,
) -> dict[str, Outcome]:
    """What became of each program's two calls, by the name of the program."""
    with service(rows, order, way, folder, checkout, ports) as running:
        try:
            running.wait_until_ready(3 * LIMIT)  # all libraries are imported
        except AssertionError:
            how = "hangs" if running.process.poll() is None else "crashes"
            return {row.program: Outcome(how, _last_line(running.stderr)) for row in rows}
        found = {row.program: _two_calls(running, row) for row in rows}
        said = running.stderr
        found = {row.program: _with_warnings(found[row.program], row, said, rows) for row in rows}
        if "hangs" in {one.word for one in found.values()}:
            return found  # so would the end
        fault = _fault_of_the_end(running)
        return found if not fault else {name: _worse(one, fault) for name, one in found.items()}


def _ask(running: Program, method: str, *params: Any) -> dict[str, Any]:
    """The response; an empty one when there is none."""
    try:
        return dict(call(running.port, method, *params).json)
    except (OSError, AssertionError):
        return {}


def _two_calls(running: Program, row: Row) -> Outcome:
    replies = gather(
        [partial(_ask, running, "work", row.program, n) for n in (1, 2)], limit=3 * LIMIT
    )
    turns = {} if {} in replies else _ask(running, "turns_meanwhile")
    if not turns:
        how = "hangs" if running.process.poll() is None else "crashes"
        return Outcome(how, _last_line(running.stderr))
    errors = [reply["error"] for reply in replies if "error" in reply]
    if errors:
        data = errors[0].get("data") or {}
        told = f"{data.get('class', errors[0]['code'])}: {data.get('info', '')}".partition("\n")[0]
        return Outcome("refused" if row.told and row.told in told else "fails", told)
    results = [reply["result"] for reply in replies]
    if results != [1, 2]:
        return Outcome("shared" if len(set(results)) == 1 else "wrong", str(results))
    if turns["result"] < TURNS:
        return Outcome("blocks", f"{turns['result']} turns of others")
    return Outcome("right")


def _with_warnings(outcome: Outcome, row: Row, said: str, rows: Sequence[Row]) -> Outcome:
    """What it says on stderr: the one warning that is meant to be there, and no other."""
    told = {one.told for one in rows} - {""}
    # Some libraries deprecate each other.
    warnings = [line for line in said.splitlines() if "RuntimeWarning: " in line]
    others = [line for line in warnings if not any(one in line for one in told)]
    if outcome.word in ("right", "blocks") and row.told and row.told in said:
        return Outcome("warned", row.told)
    if outcome.word == "right" and row.told:
        return Outcome("right", "without its warning")
    if outcome.word == "right" and others:
        return Outcome("warned falsely", others[0])
    return outcome


def _fault_of_the_end(running: Program) -> str:
    if running.process.poll() is not None:
        return f"the process ended with {running.process.returncode}"
    try:
        code = running.terminate(LIMIT)
    except AssertionError:
        return "SIGTERM is not obeyed"
    return "" if code == 0 else f"after SIGTERM it ended with {code}"


def _worse(outcome: Outcome, fault: str) -> Outcome:
    return Outcome("ends badly", fault) if outcome.is_good else outcome


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else ""
