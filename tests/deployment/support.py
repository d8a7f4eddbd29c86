"""The template's project as its own files deploy it, on ports of the test's own."""

import configparser
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.cli.support import run
from tests.support.machine import absent, free_port
from tests.support.programs import Program

NAME = "myservice"

#: What Debian's own configuration is for the file in conf.d: everything around it.
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {site};
}}
"""


def make_project(folder: Path) -> Path:
    """Make the project of ``gemstone new myservice``."""
    done = run("new", NAME, cwd=folder)
    assert done.code == 0, done
    return folder / NAME


def installed(program: str, package: str) -> str:
    """The path of a program; skips, or fails where everything must be there."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        absent(f"{program} is not installed: apt install {package}")
    return path


def make_certificates(folder: Path) -> Path:
    """Make what is in ``/etc/ssl/myservice``, for localhost; returns the authority to trust."""
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost "
        "-keyout privkey.pem -out fullchain.pem"
    )
    installed("openssl", "openssl")
    subprocess.run(shlex.split(words), cwd=folder, check=True, capture_output=True)
    chain = folder / "fullchain.pem"
    both = chain.read_text() + (folder / "privkey.pem").read_text()
    (folder / "haproxy.pem").write_text(both)
    return chain


class Instances:
    """Two instances as the systemd unit starts them: its command, variables and directory.

    :param variables: beside those of the unit; ``%i`` is the port.
    :param words: for gunicorn: what else it serves than the project's own service.
    :ivar ports: of the first and the second one.
    """

    def __init__(
        self,
        project: Path,
        stack: contextlib.ExitStack,
        variables: Mapping[str, str] | None = None,
        words: Sequence[str] = (),
    ) -> None:
        self._project = project
        self._stack = stack
        self._variables = variables or {}
        self._words = words
        unit = configparser.RawConfigParser(strict=False, dict_type=_AllValues)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(project / "deploy" / f"{NAME}@.service")
        self._unit = unit["Service"]
        assert self._unit["ExecStart"] == f"/opt/{NAME}/venv/bin/gunicorn"
        assert self._unit["WorkingDirectory"] == f"/opt/{NAME}"
        self.programs: dict[int, Program] = {}
        self.ports = [free_port(), free_port()]
        for port in self.ports:
            self.start(port)
        for program in self.programs.values():
            program.wait_until_ready()

    def start(self, port: int) -> None:
        assignments = shlex.split(self._unit["Environment"].replace("%i", str(port)))
        environment = {
            **dict(each.split("=", 1) for each in assignments),
            **{name: value.replace("%i", str(port)) for name, value in self._variables.items()},
        }
        command = [sys.executable, "-m", "gunicorn", *self._words]
        program = Program(command, self._project, environment=environment)
        program.port = port
        self._stack.callback(program.kill)
        self.programs[port] = program

    def restart(self, port: int) -> None:
        """``systemctl restart``: SIGTERM, the end, and the next one, for which nobody waits."""
        assert "ExecStop" not in self._unit
        assert self.programs[port].terminate(float(self._unit["TimeoutStopSec"])) == 0
        assert "Traceback" not in self.programs[port].stderr
        self.start(port)


class _AllValues(dict):  # type: ignore[type-arg]
    """Joins the values of an option that is there several times, as systemd does Environment's."""

    def __setitem__(self, key: str, value: object) -> None:
        before = self.get(key)
        if isinstance(value, list) and isinstance(before, list):
            value = [*before, *value]
        super().__setitem__(key, value)


def on_ports(text: str, ports: list[int]) -> str:
    """A file of the project's with the ports of the test's instances in it."""
    for own, port in zip(("8001", "8002"), ports, strict=True):
        assert f"127.0.0.1:{own}" in text
        text = text.replace(f"127.0.0.1:{own}", f"127.0.0.1:{port}")
    return text


def nginx_command(
    project: Path, folder: Path, certificates: Path, port: int, ports: list[int]
) -> list[str]:
    """Write the configuration; what starts nginx with it."""
    text = on_ports((project / "deploy" / "nginx.conf").read_text(), ports)
    assert "listen 443 ssl" in text
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    site, main = folder / "site.conf", folder / "nginx.conf"
    site.write_text(text.replace(f"/etc/ssl/{NAME}/", f"{certificates}/"))
    main.write_text(NGINX.format(folder=folder, site=site))
    return [installed("nginx", "nginx"), "-e", f"{folder}/nginx.log", "-c", str(main)]


def haproxy_command(
    project: Path, folder: Path, certificates: Path, port: int, ports: list[int]
) -> list[str]:
    """Write the configuration; what starts haproxy with it."""
    text = on_ports((project / "deploy" / "haproxy.cfg").read_text(), ports)
    assert "bind :443 ssl" in text
    text = text.replace("bind :443 ssl", f"bind 127.0.0.1:{port} ssl")
    path = folder / "haproxy.cfg"
    path.write_text(text.replace(f"/etc/ssl/{NAME}/", f"{certificates}/"))
    return [installed("haproxy", "haproxy"), "-db", "-f", str(path)]


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[Program]:
    program = Program(command, folder)
    try:
        yield program
    finally:
        program.kill()


def section_of(text: str, begin: str) -> str:
    """The commands of the README's block that has this line."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", text)
    (found,) = [block for block in blocks if begin in block]
    return found
