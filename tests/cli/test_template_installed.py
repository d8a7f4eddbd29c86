"""The template's project installed in an environment of its own, tested there, and run."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import RemoteService
from tests.cli.projects import check_name, files_of, metadata_of
from tests.cli.support import line_of, run, run_program
from tests.support.http import exchange, message
from tests.support.programs import REPOSITORY, Program

#: Seconds to download and install some twenty packages.
INSTALL_LIMIT = 240.0

#: No package from elsewhere, whatever the tests themselves are run with.
INSTALLED_ONLY = {"PYTHONPATH": ""}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * INSTALL_LIMIT)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the package's source: building leaves files in it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "gemstone_sync", source / "gemstone_sync", ignore=unwanted)
    return source


@pytest.fixture(scope="module")
def project(tmp_path_factory, source):
    """The project that ``gemstone new myservice`` makes. To be read only."""
    folder = tmp_path_factory.mktemp("made")
    done = run("new", "myservice", cwd=folder)
    assert done.code == 0, done
    metadata = folder / "myservice" / "pyproject.toml"
    text = metadata.read_text("utf-8")
    assert f"gemstone_sync[metrics] @ {REPOSITORY.as_uri()}" in text
    metadata.write_text(text.replace(REPOSITORY.as_uri(), source.as_uri()), "utf-8")
    return folder / "myservice"


@pytest.fixture(scope="module")
def programs(tmp_path_factory, source):
    """The programs of a fresh environment with this package, as it is built, and no extras."""
    folder = tmp_path_factory.mktemp("installed")
    do(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    do(folder / "venv" / "bin" / "pip", "install", "--quiet", source, cwd=folder)
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def with_service(programs, project, tmp_path_factory):
    """The same with the project installed, step by step as its image is built, and with pytest."""
    folder = tmp_path_factory.mktemp("build")
    stage = (project / "Dockerfile").read_text("utf-8").split("\nFROM ")[0]
    for step, line in re.findall(r"(?m)^(COPY|RUN) (.*)$", stage):
        words = line.split()
        if step == "COPY":
            for name in words[:-1]:
                copy = shutil.copytree if name.endswith("/") else shutil.copy
                copy(project / name, folder / name)
        elif words[0] != "python":  # which would make the environment
            do(*line.replace("/venv/bin", str(programs)).split(), cwd=folder)
    needed = metadata_of(project)["optional-dependencies"]["test"]
    do(programs / "pip", "install", "--quiet", *needed, cwd=folder)
    shutil.rmtree(folder)
    return programs


def do(*words: str | Path, cwd: Path) -> str:
    """Run a program to its good end; what it wrote to stdout.

    :param cwd: not the checkout: Python would find the package there, and not what is installed.
    """
    done = run_program(*words, cwd=cwd, env=INSTALLED_ONLY, timeout=INSTALL_LIMIT)
    assert done.code == 0, done
    return done.stdout


@pytest.fixture
def start():
    """Start a program; it is killed at the end."""
    started: list[Program] = []

    def start(program: Path, *words: str, folder: Path, **options: Any) -> Program:
        variables = {**INSTALLED_ONLY, **options.pop("environment", {})}
        started.append(Program([str(program), *words], folder, environment=variables, **options))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def port_in_log(program: Program, pattern: str) -> int:
    found = program.wait_until(lambda: re.search(pattern, program.stderr), pattern)
    return int(found[1])


def assert_that_it_serves(port: int) -> None:
    with RemoteService(f"http://127.0.0.1:{port}/api") as client:
        assert client.methods.say_hello(name="world") == "hello world"
        assert client.methods.mean([1, 2, 6]) == 3
    page = exchange(port, message("GET", "/"))
    assert page.status == 200
    assert b"Greet somebody." in page.body
    (path,) = re.findall(rb'<link rel="stylesheet" href="([^"]+)">', page.body)
    style = exchange(port, message("GET", path.decode()))
    assert (style.status, style.headers.get("Content-Type")) == (200, "text/css; charset=utf-8")


def assert_that_it_is_healthy(programs: Path, project: Path, port: int) -> None:
    """Run the health check of the image: its answer is an exit code."""
    check = re.search(r"HEALTHCHECK .*\\\n *CMD (.*)", (project / "Dockerfile").read_text("utf-8"))
    assert check is not None
    words = json.loads(check[1])
    for number, code in ((port, 0), (1, 1)):  # nobody listens on port 1
        env = {"GEMSTONE_PORT": str(number), "http_proxy": "http://127.0.0.1:1"}
        done = run_program(programs / words[0], *words[1:], env=env)
        assert done.code == code, done


def test_the_template_comes_with_the_package(programs, tmp_path):
    where = "import gemstone_sync, pathlib; print(pathlib.Path(gemstone_sync.__file__).parent)"
    installed = Path(do(programs / "python", "-c", where, cwd=tmp_path).strip()) / "template"
    found = {path for path in files_of(installed) if not path.endswith(".pyc")}
    assert found == set(files_of(REPOSITORY / "gemstone_sync" / "template"))
    assert (installed / "{{cookiecutter.name}}" / ".gitignore").is_file()


def test_it_names_the_extra_that_is_missing(programs, tmp_path):
    done = run_program(programs / "gemstone", "new", "shop", cwd=tmp_path, env=INSTALLED_ONLY)
    assert line_of(done, 2) == (
        "gemstone new: cookiecutter is not installed: pip install 'gemstone_sync[new]'"
    )
    assert os.listdir(tmp_path) == []


#: Prints where the copy that is installed comes from.
WHENCE = "from gemstone_sync.cli.new import source; print(source())"


def test_where_a_copy_comes_from(programs, source, tmp_path):
    """A directory, a checkout that is used as it is, a wheel, and an index."""
    assert do(programs / "python", "-c", WHENCE, cwd=tmp_path) == f"{source.as_uri()}\n"
    python = tmp_path / "venv" / "bin" / "python"
    do(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    install = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall")
    do(
        python, "-m", "pip", "install", "--quiet", "click", cwd=tmp_path
    )  # which the command is made of
    do(*install, "--editable", source, cwd=tmp_path)
    assert do(python, "-c", WHENCE, cwd=tmp_path) == f"{source.as_uri()}\n"
    do(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "a b", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "a b").iterdir()
    do(*install, wheel, cwd=tmp_path)
    assert do(python, "-c", WHENCE, cwd=tmp_path) == f"{wheel.as_uri()}\n"
    do(*install, "--no-index", "--find-links", wheel.parent, "gemstone_sync", cwd=tmp_path)
    assert do(python, "-c", WHENCE, cwd=tmp_path) == "None\n"


def test_the_tests_of_the_project_pass(with_service, project, tmp_path):
    tests = shutil.copytree(project, tmp_path / "myservice")
    assert "6 passed" in do(with_service / "python", "-m", "pytest", cwd=tests)


LIST_NAMES = """
import importlib.metadata, json, os, sys

distributions = {each.metadata["Name"] for each in importlib.metadata.distributions()}
modules = importlib.metadata.packages_distributions()
programs = os.listdir(os.path.dirname(sys.executable))
print(json.dumps([*distributions, *modules, *programs]))
"""


def test_no_name_may_take_the_place_of_what_is_installed(with_service, tmp_path):
    names = json.loads(do(with_service / "python", "-c", LIST_NAMES, cwd=tmp_path))
    assert {"activate", "flask", "Flask", "python-dotenv"} < set(names)
    for name in set(names) - {"myservice"}:
        with pytest.raises(ValueError, match="is no name for a service"):
            check_name(name)


def test_the_service_answers_until_a_signal(with_service, tmp_path, start, project):
    words = ["start", "--host=127.0.0.1", "--port=0"]
    program = start(with_service / "myservice", *words, folder=tmp_path)
    port = port_in_log(program, r"listens on http://127\.0\.0\.1:(\d+)/api")
    assert_that_it_serves(port)
    assert_that_it_is_healthy(with_service, project, port)
    readme = (project / "README.md").read_text("utf-8")
    calls = re.findall(r"(?ms)^```sh\n((?:gemstone|curl) .*?)^```", readme)
    assert len(calls) == 2
    for call in calls:
        own = f'PATH="{with_service}:$PATH" {call.replace(":8000", f":{port}")}'
        assert "hello world" in do("bash", "-c", own, cwd=tmp_path)
    assert program.terminate() == 0
    assert "Traceback" not in program.stderr


def test_gunicorn_serves_it_by_the_projects_settings(with_service, tmp_path, start, project):
    for name in ("gunicorn.conf.py", "myservice.toml"):  # as the Dockerfile does
        shutil.copy(project / name, tmp_path)
    variables = {
        "GEMSTONE_ACCESS_LOG": "true",
        "GEMSTONE_PORT": "0",
        "HOME": str(tmp_path),
        "WEB_CONCURRENCY": "2",
    }
    program = start(with_service / "gunicorn", folder=tmp_path, environment=variables)
    port = port_in_log(program, r"Listening at: http://127\.0\.0\.1:(\d+)")
    program.port = port
    program.wait_until_ready()
    assert_that_it_serves(port)
    assert_that_it_is_healthy(with_service, project, port)
    program.wait_until(lambda: program.stderr.count("Booting worker") == 2, "two workers")
    assert program.terminate() == 0
    assert re.search(r'(?m)^\[.+\] \[\d+\] \[INFO\] .*"POST /api HTTP/1.1" 200 ', program.stderr)
    assert "Traceback" not in program.stderr
