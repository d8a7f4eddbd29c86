"""The servers that are measured: what each is, how it is started, and whether it can be here.

A new peer is one file in peers/ and one entry in CATALOGUE. All answer POST /api with one worker
process and no access log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import venvs

PEERS = Path(__file__).resolve().parent / "peers"
REPOSITORY = PEERS.parents[2]

GUNICORN = "-m gunicorn -b 127.0.0.1:{port} -w 1 --no-control-socket --log-level warning -k"
UVICORN = (
    "-m uvicorn --host 127.0.0.1 --port {port} --workers 1 --loop uvloop --http httptools"
    " --no-access-log --log-level warning"
)
GRANIAN = (
    "-m granian --host 127.0.0.1 --port {port} --interface rsgi --http 1 --no-ws --workers 1"
    " --runtime-threads 1 --loop uvloop --log-level warning"
)


@dataclass(frozen=True)
class Server:
    """One server.

    :param arguments: of its Python, `{port}` filled in; the working directory is peers/
    :param requirements: of its venv; empty: it runs in this Python's environment
    :param shown: distributions whose versions are printed
    :param smoke: must run in the venv
    :param older: try older interpreters when this one does not do
    :param needs: the features of this environment that it needs (see :func:`features`)
    """

    name: str
    title: str
    arguments: str
    shown: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    smoke: str = ""
    older: bool = False
    needs: tuple[str, ...] = ()

    def command(self, python: str, port: int) -> list[str]:
        return [python, *self.arguments.format(port=port).split()]

    def environment(self, port: int, **more: str) -> dict[str, str]:
        """Return the child's environment: this checkout on PYTHONPATH, nothing for peers."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if not self.requirements:
            path = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        return {**environment, "BENCH_PORT": str(port), **more}


CATALOGUE = (
    Server(
        "echo",
        "raw gevent socket echo (the limit)",
        "echo_server.py",
        ("gevent",),
        needs=("gevent",),
    ),
    Server(
        "ours",
        "gemstone_sync, own server",
        "ours_service.py",
        ("gemstone_sync", "gevent", "flask", "msgspec", "httptools"),
        needs=("gemstone_sync",),
    ),
    Server(
        "ours-gunicornworker",
        "gemstone_sync, gunicorn -k GunicornWorker",
        f"{GUNICORN} gemstone_sync.server.GunicornWorker ours_service:service",
        ("gemstone_sync", "gunicorn"),
        needs=("gemstone_sync", "gunicorn", "GunicornWorker"),
    ),
    Server(
        "ours-gunicorn",
        "gemstone_sync, gunicorn -k gevent",
        f"{GUNICORN} gevent ours_service:service",
        ("gemstone_sync", "gunicorn", "gevent"),
        needs=("gemstone_sync", "gunicorn"),
    ),
    Server(
        "uvicorn-asgi",
        "hand-written ASGI + msgspec, uvicorn",
        f"{UVICORN} --lifespan off msgspec_asgi:app",
        ("uvicorn", "uvloop", "httptools", "msgspec"),
        ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "msgspec==0.22.0"),
        "import uvicorn, uvloop, httptools, msgspec",
    ),
    Server(
        "granian-rsgi",
        "hand-written RSGI + msgspec, granian",
        f"{GRANIAN} msgspec_rsgi:app",
        ("granian", "uvloop", "msgspec"),
        ("granian==2.8.7", "uvloop==0.23.0", "msgspec==0.22.0"),
        "import granian, uvloop, msgspec",
    ),
    Server(
        "pjrpc",
        "pjrpc on aiohttp",
        "pjrpc_aiohttp.py",
        ("pjrpc", "aiohttp"),
        ("pjrpc==2.2.0", "aiohttp==3.14.5"),
        "from pjrpc.server.integration import aiohttp",
    ),
    Server(
        "old-gemstone",
        "gemstone 0.10.1 on tornado",
        "old_gemstone.py",
        ("gemstone", "tornado"),
        ("gemstone==0.10.1", "tornado<6.2", "simplejson"),
        "import gemstone",
        older=True,
    ),
    Server(
        "fastapi-jsonrpc",
        "fastapi-jsonrpc on uvicorn",
        f"{UVICORN} fastapi_jsonrpc_app:app",
        ("fastapi-jsonrpc", "fastapi", "uvicorn"),
        ("fastapi-jsonrpc==4.1.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
        "import fastapi_jsonrpc, uvicorn, uvloop, httptools",
    ),
    Server(
        "flask-jsonrpc",
        "flask-jsonrpc, gunicorn -k gevent",
        f"{GUNICORN} gevent flask_jsonrpc_app:app",
        ("flask-jsonrpc", "flask", "gunicorn", "gevent"),
        ("flask-jsonrpc==4.0.0", "gunicorn[gevent]==27.0.1", "gevent==26.9.0"),
        "import flask_jsonrpc, gunicorn, gevent",
    ),
)
BY_NAME = {server.name: server for server in CATALOGUE}

_PROBE = """
import importlib.util, json
found = []
for name in ("gevent", "gunicorn", "gemstone_sync"):
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None: found.append(name)
try:
    import gemstone_sync
    if hasattr(gemstone_sync.MicroService, "workers"): found.append("workers")
    from gemstone_sync.server import GunicornWorker
    found.append("GunicornWorker")
except Exception: pass  # a broken package is "there": starting the server tells what is wrong
print(json.dumps(found))
"""


def features() -> set[str]:
    """Return which of gevent, gunicorn, gemstone_sync, workers, GunicornWorker are here.

    Found out in a child, because the first use of gemstone_sync's service side patches the process.
    """
    environment = BY_NAME["ours"].environment(0)
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, timeout=60
    )
    return set(json.loads(done.stdout)) if done.returncode == 0 else set()


def python_of(server: Server) -> str:
    """Return the interpreter that runs the server; its venv is made first if need be.

    :raises venvs.VenvFault: it could not be made
    """
    if not server.requirements:
        return sys.executable
    return venvs.ensure(server.name, list(server.requirements), server.smoke, older=server.older)
