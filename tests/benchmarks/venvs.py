"""One virtual environment per peer, made once and kept in the user's cache.

Each peer has its own because their requirements exclude each other, and because nothing of theirs
may leak into the environment that runs gemstone_sync. Remade when the requirements change.

The servers of rpc.py name their requirements in servers.py. PACKAGES is what client.py and
tests/interop share.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: Seconds for one venv: some peers build a wheel.
INSTALL_LIMIT = 600


class VenvFault(Exception):
    """A venv could not be made; the message is one line."""


def cache_folder() -> Path:
    """Return the folder that holds the venvs ($XDG_CACHE_HOME or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gemstone_sync-bench"


def interpreters(older: bool) -> list[str]:
    """Return the Pythons to try: this one, then if asked the older ones of PATH and pyenv."""
    found = [sys.executable]
    if older:
        for minor in (11, 10, 9, 8):
            pyenv = Path.home() / ".pyenv" / "versions"
            found += [str(path / "bin" / "python") for path in pyenv.glob(f"3.{minor}.*")]
            on_path = shutil.which(f"python3.{minor}")
            if on_path is not None:
                found.append(on_path)
    # Resolved, so that an interpreter is the same by whatever path it was started.
    return list(dict.fromkeys(map(os.path.realpath, found)))


def ensure(name: str, requirements: list[str], smoke: str, *, older: bool = False) -> str:
    """Return the python of the peer's venv, made now if it is not there as wanted.

    :param smoke: statements that must run in it, e.g. `import pjrpc`
    :param older: try other interpreters of the machine when this one does not do
    :raises VenvFault: with the last line of what went wrong
    """
    folder = cache_folder() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks at once must not both build it
        problems = []
        wanted = [_description(python, requirements) for python in interpreters(older)]
        python = str(folder / "bin" / "python")
        marker = folder / "benchmark.json"
        if marker.exists() and json.loads(marker.read_text()) in wanted and _works(python, smoke):
            return python
        for description in wanted:
            print(f"making the venv of {name} with {description['python']}", file=sys.stderr)
            try:
                _make(folder, str(description["python"]), requirements, smoke)
            except VenvFault as fault:
                problems.append(str(fault))
                continue
            marker.write_text(json.dumps(description))  # last: a half-made venv has no marker
            return python
        raise VenvFault("; ".join(dict.fromkeys(problems)))


@dataclass(frozen=True)
class Package:
    """A JSON-RPC package of others with what it needs: :func:`ensure`'s parameters.

    :param shown: distributions whose versions are printed
    """

    name: str
    requirements: tuple[str, ...]
    smoke: str
    shown: tuple[str, ...]
    older: bool = False

    def python(self) -> str:
        """Return the python of its venv.

        :raises VenvFault: it could not be made
        """
        return ensure(f"package-{self.name}", list(self.requirements), self.smoke, older=self.older)


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "old-gemstone",
            ("gemstone==0.10.1", "tornado<6.2", "simplejson"),
            "import gemstone",
            ("gemstone", "tornado"),
            older=True,
        ),
        Package(
            "jsonrpcclient",
            ("jsonrpcclient==4.0.3", "requests==2.34.2"),
            "import jsonrpcclient, requests",
            ("jsonrpcclient", "requests", "urllib3"),
        ),
        Package(
            "pjrpc",
            ("pjrpc==2.2.0", "aiohttp==3.14.5", "requests==2.34.2"),
            "from pjrpc.client.backend import requests\n"
            "from pjrpc.server.integration import aiohttp",
            ("pjrpc", "requests", "urllib3"),
        ),
        Package(
            "flask-jsonrpc",
            ("flask-jsonrpc==4.0.0",),
            "import flask_jsonrpc",
            ("flask-jsonrpc", "flask"),
        ),
    )
}


def versions(python: str, names: list[str]) -> dict[str, str]:
    """Return the interpreter's version and those of the named distributions in its environment."""
    program = (
        "import json, platform, sys; from importlib import metadata\n"
        "out = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: out[name] = metadata.version(name)\n"
        "    except metadata.PackageNotFoundError: pass\n"
        "print(json.dumps(out))"
    )
    done = subprocess.run(
        [python, "-c", program, *names], capture_output=True, text=True, timeout=60
    )
    found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def _description(python: str, requirements: list[str]) -> dict[str, object]:
    return {"python": python, "requirements": requirements}


def _works(python: str, smoke: str) -> bool:
    try:
        return (
            subprocess.run([python, "-c", smoke], capture_output=True, timeout=60).returncode == 0
        )
    except OSError:
        return False


def _make(folder: Path, python: str, requirements: list[str], smoke: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    inside = str(folder / "bin" / "python")
    for command in (
        [python, "-m", "venv", str(folder)],
        [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
        [inside, "-c", smoke],
    ):
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=INSTALL_LIMIT,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VenvFault(f"{python}: {error}") from None
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if line.strip()]
            raise VenvFault(f"{python}: {lines[-1] if lines else 'failed silently'}")
