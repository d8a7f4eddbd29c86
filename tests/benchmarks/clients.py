"""The clients that client.py measures: what each is, and how its process is run.

A new client is one function in client_peers/ and one entry in CATALOGUE. Each has a process of its
own, and those of other packages an environment of their own.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import process
import venvs
from servers import REPOSITORY

FOLDER = Path(__file__).resolve().parent / "client_peers"
#: Seconds for one job.
JOB_LIMIT = 120.0
#: Calls at once, of those that make several.
TOGETHER = 100


class ClientFault(Exception):
    """A client raised, returned something wrong, ended or hangs."""


@dataclass(frozen=True)
class Client:
    """One client.

    :param module: its file in client_peers/
    :param function: in it: makes one call
    :param many: in it: makes calls at once, of `add`; empty: it is measured one call at a time
    :param naps: the same, of the method that takes 10 ms
    :param package: the entry of `venvs.PACKAGES` that has it; empty: it runs in this environment
    :param patched: run it in a process that gevent has patched
    :param wire_format: that it needs of the server
    """

    name: str
    title: str
    module: str
    function: str = ""
    many: str = ""
    naps: str = ""
    package: str = ""
    patched: bool = False
    wire_format: str = "jsonrpc"

    def command(self, python: str, url: str) -> list[str]:
        return [python, "runner.py", self.module, url, *(["--patched"] if self.patched else [])]

    def python(self) -> str:
        """Return the interpreter that has it; its environment is made first if need be.

        :raises venvs.VenvFault: it could not be made
        """
        return venvs.PACKAGES[self.package].python() if self.package else sys.executable

    def environment(self) -> dict[str, str]:
        """Return the process's environment: this checkout on PYTHONPATH, nothing for peers."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if not self.package:
            path = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        return environment


CATALOGUE = (
    Client("socket", "raw socket and json (the limit)", "handwritten", "raw_socket"),
    Client("http.client", "http.client, kept connection", "handwritten", "http_client"),
    Client("urllib3", "urllib3.PoolManager", "handwritten", "urllib3_pool"),
    Client("session", "requests.Session().post(…).json()", "handwritten", "requests_session"),
    Client("post", "requests.post(…).json()", "handwritten", "requests_post"),
    Client(
        "jsonrpcclient",
        "jsonrpcclient + requests.post",
        "jsonrpcclient_requests",
        "readme",
        package="jsonrpcclient",
    ),
    Client(
        "jsonrpcclient-session",
        "jsonrpcclient + requests.Session",
        "jsonrpcclient_requests",
        "session",
        package="jsonrpcclient",
    ),
    Client("pjrpc", "pjrpc's requests client", "pjrpc_requests", "proxy", package="pjrpc"),
    Client(
        "old-gemstone",
        "gemstone 0.10.1 RemoteService",
        "old_gemstone_client",
        "remote_service",
        many="many",
        naps="naps",
        package="old-gemstone",
        wire_format="gemstone",
    ),
    Client("ours", "gemstone_sync RemoteService", "ours", "remote_service"),
    Client(
        "post-patched",
        "requests.post(…).json(), patched",
        "handwritten",
        "requests_post",
        patched=True,
    ),
    Client(
        "session-patched",
        "requests.Session, patched",
        "handwritten",
        "requests_session",
        many="many_session",
        naps="naps_session",
        patched=True,
    ),
    Client(
        "ours-patched",
        "gemstone_sync RemoteService, patched",
        "ours",
        "remote_service",
        many="many",
        naps="naps",
        patched=True,
    ),
    Client(
        "ours-async",
        "gemstone_sync async_(), patched",
        "ours",
        many="many_async",
        naps="naps_async",
        patched=True,
    ),
    Client(
        "ours-threads",
        "gemstone_sync async_(), threads",
        "ours",
        many="many_async",
        naps="naps_async",
    ),
)
BY_NAME = {client.name: client for client in CATALOGUE}


@dataclass(frozen=True)
class Sample:
    """One phase of one round: CPU of the client's process per call (µs), calls/s."""

    cpu: float
    rate: float


class RunningClient:
    """A client's process, on the given cores; a context manager."""

    def __init__(self, client: Client, python: str, url: str, cores: Iterable[int]):
        self._client = client
        self._command = client.command(python, url)
        self._cores = list(cores)

    def __enter__(self) -> RunningClient:
        self._child: subprocess.Popen[str] = process.spawn(
            self._command,
            cores=self._cores,
            environment=self._client.environment(),
            folder=FOLDER,
            pipes=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process.stop(self._child)

    def measure(self, function: str, calls: int, together: int = 0) -> Sample:
        """Make calls and return what they cost; a fifth more are made before, unmeasured.

        :raises ClientFault: a wrong result or an exception, with what it was
        """
        warm = max(calls // 5, 2 * together, 50)
        job = {"function": function, "calls": calls, "warm": warm, "together": together}
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(job) + "\n")
            self._child.stdin.flush()
        except OSError:
            raise ClientFault("its process ended") from None
        ready, _, _ = select.select([self._child.stdout], [], [], JOB_LIMIT)
        line = self._child.stdout.readline() if ready else ""
        if not line:
            raise ClientFault("its process ended" if ready else f"no end within {JOB_LIMIT:.0f} s")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientFault(answer["error"])
        return Sample(answer["cpu"] * 1e6, answer["rate"])
