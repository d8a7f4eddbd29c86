"""One virtual environment per peer, made once and kept in the user's cache.

Each peer has its own because their requirements exclude each other, and because nothing of theirs
may leak into the environment that runs gemstone_sync. Remade when the requirements change.

PACKAGES is what the benchmarks and the tests of other packages share.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
#: The distributions of this environment whose versions are printed.
OURS = (
    "gemstone_sync",
    "gevent",
    "flask",
    "gunicorn",
    "msgspec",
    "httptools",
    "requests",
    "urllib3",
)
OURS += ("kombu", "amqp", "redis")
_UVICORN = "uvicorn==0.54.0 uvloop==0.23.0 httptools==0.9.0"
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
    for minor in (11, 10, 9, 8) if older else ():
        pyenv = Path.home() / ".pyenv" / "versions"
        found += [str(path / "bin" / "python") for path in pyenv.glob(f"3.{minor}.*")]
        found += filter(None, [shutil.which(f"python3.{minor}")])
    # Resolved, so that an interpreter is the same by whatever path it was started.
    return list(dict.fromkeys(map(os.path.realpath, found)))


def _fault(command: list[str]) -> str | None:
    """Run a command; None when it does, else the last line of what it said."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    try:
        done = subprocess.run(command, **how, timeout=INSTALL_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not done.returncode:
        return None
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return lines[-1] if lines else "failed silently"


@dataclass(frozen=True)
class Package:
    """A package of others with what it needs.

    :param requirements: as pip takes them
    :param modules: what must be importable in the environment
    :param older: try older interpreters of the machine when this one does not do
    """

    name: str
    requirements: str
    modules: str
    older: bool = False

    def python(self) -> str:
        """Return the python of its environment, made now if it is not there as wanted.

        :raises VenvFault: it could not be made, with the last line of what went wrong
        """
        folder = cache_folder() / f"package-{self.name}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks at once must not both build it
            python, marker = str(folder / "bin" / "python"), folder / "benchmark.json"
            wanted = [{"python": p, "requirements": self._list()} for p in interpreters(self.older)]
            made = json.loads(marker.read_text()) if marker.exists() else None
            if made in wanted and _fault([python, "-c", f"import {self.modules}"]) is None:
                return python
            problems = []
            for description in wanted:
                print(
                    f"making the venv of {self.name} with {description['python']}", file=sys.stderr
                )
                fault = self._make(folder, str(description["python"]))
                if fault is None:
                    marker.write_text(json.dumps(description))  # last: a half-made one has none
                    return python
                problems.append(f"{description['python']}: {fault}")
            raise VenvFault("; ".join(problems))

    def names(self) -> list[str]:
        return [re.split("[=<[]", requirement)[0] for requirement in self._list()]

    def _list(self) -> list[str]:
        return self.requirements.split()

    def _make(self, folder: Path, python: str) -> str | None:
        """Return why it failed."""
        shutil.rmtree(folder, ignore_errors=True)
        inside = str(folder / "bin" / "python")
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        return (
            _fault([python, "-m", "venv", str(folder)])
            or _fault([*pip, *self._list()])
            or _fault([inside, "-c", f"import {self.modules}"])
        )


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "fastapi-jsonrpc", f"fastapi-jsonrpc==4.1.0 {_UVICORN}", "fastapi_jsonrpc, uvicorn"
        ),
        Package(
            "flask-jsonrpc",
            "flask-jsonrpc==4.0.0 gunicorn[gevent]==27.0.1 gevent==26.9.0",
            "flask_jsonrpc, gunicorn, gevent",
        ),
        Package("granian", "granian==2.8.7 uvloop==0.23.0 msgspec==0.22.0", "granian, uvloop"),
        Package(
            "jsonrpcclient", "jsonrpcclient==4.0.3 requests==2.34.2", "jsonrpcclient, requests"
        ),
        Package("kubernetes-validate", "kubernetes-validate==1.37.0", "kubernetes_validate"),
        Package("mcp", "mcp==2.3.0", "mcp"),
        Package(
            "nameko",
            "nameko==2.14.1 kombu==5.7.0 amqp==5.4.2 eventlet==0.41.3",
            "nameko.events, eventlet",
            older=True,
        ),
        Package("old-gemstone", "gemstone==0.10.1 tornado<6.2 simplejson", "gemstone", older=True),
        Package("pika", "pika==1.4.4", "pika"),
        Package(
            "pjrpc",
            "pjrpc==2.2.0 aiohttp==3.14.5 requests==2.34.2",
            "pjrpc.client.backend.requests, pjrpc.server.integration.aiohttp",
        ),
        Package("uvicorn", f"msgspec==0.22.0 {_UVICORN}", "uvicorn, uvloop, httptools, msgspec"),
    )
}


@dataclass(frozen=True)
class Subject:
    """What is measured: it runs in the environment of a package, or in this one.

    :param package: the entry of PACKAGES that has it; empty: this environment
    """

    name: str
    title: str
    package: str = field(default="", kw_only=True)

    def python(self) -> str:
        """Return its interpreter; its environment is made first if need be.

        :raises VenvFault: it could not be made
        """
        return PACKAGES[self.package].python() if self.package else sys.executable

    def versions(self) -> dict[str, str]:
        """Return what is installed there of what counts."""
        package = PACKAGES.get(self.package)
        return versions(self.python(), package.names() if package else list(OURS))

    def environment(self, **more: str) -> dict[str, str]:
        """Return the process's variables: this checkout on PYTHONPATH, nothing for peers."""
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if not self.package:
            path = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        return {**variables, **more}


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
