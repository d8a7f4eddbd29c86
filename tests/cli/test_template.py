"""The template of services: what the project that it makes consists of."""

import configparser
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import gemstone_sync
from tests.cli.projects import ODD_TEXT, TEMPLATE, files_of, metadata_of, read_toml
from tests.cli.support import Done, run, run_program
from tests.support.machine import absent
from tests.support.programs import REPOSITORY

#: Where the copy that runs comes from.
HERE = REPOSITORY.as_uri()

#: What the document names, and what deployment needs.
FILES = {
    ".dockerignore",
    ".github/workflows/ci.yml",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "deploy/alerts.yml",
    "deploy/grafana-dashboard.json",
    "deploy/haproxy.cfg",
    "deploy/kubernetes.yaml",
    "deploy/myservice@.service",
    "deploy/nginx.conf",
    "deploy/podmonitor.yaml",
    "deploy/prometheus.yml",
    "gunicorn.conf.py",
    "myservice.toml",
    "myservice/__init__.py",
    "myservice/handlers/__init__.py",
    "myservice/handlers/index.py",
    "myservice/html/static/style.css",
    "myservice/html/templates/index.html",
    "myservice/service.py",
    "pyproject.toml",
    "tests/test_service.py",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project that ``gemstone new myservice`` makes. To be read only."""
    folder = tmp_path_factory.mktemp("made")
    done = run("new", "myservice", "--author", "Me", cwd=folder)
    assert done.code == 0, done
    return folder / "myservice"


def test_it_makes_what_the_document_names(project):
    assert set(files_of(project)) == FILES
    assert metadata_of(project) == {
        "name": "myservice",
        "version": "1.0",
        "description": "A JSON-RPC 2.0 microservice",
        "authors": [{"name": "Me"}],
        "readme": "README.md",
        "requires-python": ">=3.10",
        "dependencies": [f"gemstone_sync[metrics] @ {HERE}"],
        "optional-dependencies": {"test": ["pytest >= 8.3"]},
        "scripts": {"myservice": "myservice.service:cli"},
    }


def test_nothing_of_the_template_is_left_in_it(project):
    for path, content in files_of(project).items():
        text = content.decode()
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert "\n\n\n" not in text or path.endswith(".py"), path
        assert "cookiecutter" not in text, path
        # A template of Flask's, and forms of GitHub's, Grafana's and Prometheus' own.
        if not path.endswith(("index.html", "ci.yml", "grafana-dashboard.json", "alerts.yml")):
            assert not re.search(r"\{\{|\{%", text), path


@pytest.mark.parametrize("words", [["check"], ["format", "--check"]])
def test_its_programs_are_clean_by_the_checkers_own_rules(project, words):
    assert len([*project.rglob("*.py")]) == 6
    ruff = Path(sys.executable).with_name("ruff")
    done = run_program(ruff, *words, "--isolated", "--no-cache", ".", cwd=project)
    assert done.code == 0, done


# Deployment


#: The project is to be read only.
NO_FILES = {"PYTHONDONTWRITEBYTECODE": "1"}

CONFIGURE = """
import json, sys
from myservice.service import MyService

service = MyService()
service.configure(["--config", sys.argv[1]])
print(json.dumps({name: getattr(service, name) for name in sys.argv[2:]}))
"""


def test_each_line_of_its_settings_file_is_a_setting(project, tmp_path):
    assert read_toml(project / "myservice.toml") == {}
    lines = (project / "myservice.toml").read_text("utf-8")
    own = tmp_path / "own.toml"
    own.write_text(re.sub(r"(?m)^# (?=\w+ = )", "", lines))
    settings = read_toml(own)
    assert len(settings) >= 6
    done = run_program(sys.executable, "-c", CONFIGURE, own, *settings, cwd=project, env=NO_FILES)
    assert done.code == 0, done
    assert json.loads(done.stdout) == settings


def yaml_of(project, name):
    return list(yaml.safe_load_all((project / "deploy" / name).read_text("utf-8")))


def test_kubernetes_asks_what_the_service_answers(project):
    deployment, service = yaml_of(project, "kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    own = gemstone_sync.MicroService
    for probe, path in {
        "startupProbe": own.health_startup_path,
        "livenessProbe": own.health_live_path,
        "readinessProbe": own.health_ready_path,
    }.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    variables = {each["name"]: each for each in container["env"]}
    for name in variables:
        assert hasattr(gemstone_sync.MicroService, name.removeprefix("GEMSTONE_").lower()), name
    assert "secretKeyRef" in variables["GEMSTONE_SECRET_KEY"]["valueFrom"]
    assert str(container["ports"][0]["containerPort"]) == variables["GEMSTONE_PORT"]["value"]
    delay = float(variables["GEMSTONE_DRAIN_DELAY"]["value"])
    # Two of Kubernetes' own looks, until no node sends anything new.
    assert delay >= 2
    assert pod["terminationGracePeriodSeconds"] > own.stop_timeout + delay
    assert container["image"] == "myservice:1.0"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == "http"


def test_prometheus_asks_each_pod(project):
    """By the name of the job that the alerts and the dashboard have."""
    deployment, _ = yaml_of(project, "kubernetes.yaml")
    (monitor,) = yaml_of(project, "podmonitor.yaml")
    pod = deployment["spec"]["template"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "myservice"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = [each["name"] for each in pod["spec"]["containers"][0]["ports"]]
    assert endpoint["port"] in ports
    assert endpoint["path"] == gemstone_sync.MicroService.metrics_path


@pytest.mark.parametrize("name", ["null", "Yes", "off"])
def test_in_kubernetes_a_name_is_text_whatever_yaml_makes_of_it(work, name):
    assert run("new", name, cwd=work).code == 0
    manifest = (work / name / "deploy" / "kubernetes.yaml").read_text("utf-8")
    deployment, service = yaml.safe_load_all(manifest)
    (monitor,) = yaml_of(work / name, "podmonitor.yaml")
    (group,) = yaml_of(work / name, "alerts.yml")[0]["groups"]
    assert monitor["metadata"]["name"] == group["name"] == name.lower()
    label = {"app.kubernetes.io/name": name.lower()}
    pod = deployment["spec"]["template"]
    for thing in (deployment, service):
        assert thing["metadata"] == {"name": name.lower(), "labels": label}
    assert pod["metadata"]["labels"] == service["spec"]["selector"] == label
    assert pod["spec"]["containers"][0]["name"] == name.lower()
    secret = pod["spec"]["containers"][0]["env"][-1]["valueFrom"]["secretKeyRef"]
    assert secret["name"] == name.lower()


def test_the_image_has_what_its_server_needs(project):
    lines = (project / "Dockerfile").read_text("utf-8").splitlines()
    copied = {
        word.rstrip("/")
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == {
        "pyproject.toml",
        "README.md",
        "myservice",
        "gunicorn.conf.py",
        "myservice.toml",
    }
    kept = (project / ".dockerignore").read_text("utf-8").splitlines()
    for name in copied:
        assert (project / name).exists()
        assert f"!{name}" in kept
    # A change of the code leaves the layer of its dependencies as it is.
    install = next(i for i, line in enumerate(lines) if "pip install" in line)
    assert install < lines.index("COPY myservice/ myservice/")
    assert lines[-1] == 'CMD ["gunicorn"]'
    assert f"'GET', '{gemstone_sync.MicroService.health_live_path}'" in lines[-2]
    assert "USER 10001:10001" in lines


def unit_text(project: Path) -> str:
    return (project / "deploy" / f"{project.name}@.service").read_text("utf-8")


def manifest_text(project: Path) -> str:
    return (project / "deploy" / "kubernetes.yaml").read_text("utf-8")


def unit_of(project: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(project / "deploy" / f"{project.name}@.service")
    return unit


def test_gunicorn_takes_its_settings_and_has_time_for_calls_in_flight(project):
    words = (sys.executable, "-m", "gunicorn", "--check-config", "--print-config")
    done = run_program(*words, cwd=project, env={"GEMSTONE_HOST": "::1", **NO_FILES})
    assert done.code == 0, done
    settings = dict(re.findall(r"(?m)^(\w+) += (.*)$", done.stdout))
    assert settings["wsgi_app"] == "myservice.service:MyService()"
    assert settings["worker_class"] == "gemstone_sync.server.GunicornWorker"
    assert settings["bind"] == "['[::1]:8000']"
    graceful = float(settings["graceful_timeout"])
    (unit,) = re.findall(r"GEMSTONE_DRAIN_DELAY=(\d+)", unit_text(project))
    (pods,) = re.findall(r"GEMSTONE_DRAIN_DELAY\s+value: \"(\d+)\"", manifest_text(project))
    assert graceful >= gemstone_sync.MicroService.stop_timeout + max(int(unit), int(pods))
    (wait_of_docker,) = re.findall(r"--stop-timeout (\d+)", (project / "README.md").read_text())
    for wait in (unit_of(project)["Service"]["TimeoutStopSec"], wait_of_docker):
        assert int(wait) > graceful


@pytest.mark.parametrize("name", ["backup", "long-name" * 7])
def test_systemd_runs_it_as_a_user_of_its_own(work, name):
    assert run("new", name, cwd=work).code == 0
    service = unit_of(work / name)["Service"]
    assert service["DynamicUser"] == "yes"
    # Longer, it is no name for a user; a plain one may be that of a user who is there already.
    assert re.fullmatch("svc-.{1,27}", service["User"])


def test_systemd_finds_no_fault_with_its_unit(project, tmp_path):
    if shutil.which("systemd-analyze") is None:
        absent("systemd-analyze is not installed")
    program = tmp_path / "myservice" / "venv" / "bin" / "gunicorn"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    unit = tmp_path / "myservice@8001.service"
    unit.write_text(unit_text(project).replace("/opt/", f"{tmp_path}/"), "utf-8")
    for words in (["verify", "--man=no"], ["security", "--offline=true", "--threshold=20"]):
        done = run_program("systemd-analyze", *words, unit)
        assert (done.code, done.stderr) == (0, ""), done


def test_its_continuous_integration_runs_its_tests(project):
    jobs = yaml.safe_load((project / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    commands = [step.get("run") for step in jobs["test"]["steps"]]
    assert commands[-1] == "python -m pytest"
    assert "${{ matrix.python }}" in str(jobs["test"]["steps"])


# The template by itself


def cookiecutter(folder: Path, variables: dict[str, str], **answers: str) -> Done:
    words = (sys.executable, "-m", "cookiecutter", "--no-input", TEMPLATE)
    own = [f"{name}={answer}" for name, answer in answers.items()]
    return run_program(*words, *own, cwd=folder, env=variables)


def test_cookiecutter_makes_the_same_of_the_template(project, home, work):
    done = cookiecutter(work, home, __from=HERE)
    assert done.code == 0, done
    assert files_of(work / "myservice") == files_of(project)
    author = ODD_TEXT.replace("{", "(").replace("}", ")")  # it renders what it is given
    done = cookiecutter(work, home, name="shop", author=author)
    assert done.code == 0, done
    assert metadata_of(work / "shop")["authors"] == [{"name": author}]
    assert metadata_of(work / "shop")["dependencies"] == ["gemstone_sync[metrics] >= 0.1"]


def test_it_says_where_the_package_comes_from_and_cannot_be_had(project, home, work):
    """In a comment of each file whose reader would find out late; not where anybody can have it."""
    assert f"# There is no {HERE} here" in (project / "Dockerfile").read_text()
    assert "no file:// URL here" in (project / ".github" / "workflows" / "ci.yml").read_text()
    for number, url in enumerate(["", "git+https://git.example.org/g.git@1f2e"]):
        done = cookiecutter(work, home, name=f"shop{number}", __from=url)
        assert done.code == 0, done
        made = work / f"shop{number}"
        needs = f"gemstone_sync[metrics] @ {url}" if url else "gemstone_sync[metrics] >= 0.1"
        assert metadata_of(made)["dependencies"] == [needs]
        for name in ("Dockerfile", "pyproject.toml"):
            assert "no such" not in (text := (made / name).read_text())
            assert "There is no" not in text
            assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("answers", "line"),
    [
        ({"name": "class"}, "ERROR: 'class' is no name for a service"),
        ({"name": "shop", "version": "one"}, "ERROR: 'one' is no version"),
        ({"name": "shop", "author": "a\nb"}, "ERROR: the author must be one line"),
    ],
)
def test_cookiecutter_says_why_it_refuses(home, work, answers, line):
    done = cookiecutter(work, home, **answers)
    assert done.code == 1
    assert [text for text in done.stderr.splitlines() if text.startswith(line)] != []
    assert os.listdir(work) == []


def test_cookiecutter_asks_as_in_the_document():
    settings = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))
    asked = {text: settings[name] for name, text in settings["__prompts__"].items()}
    assert asked == {
        "Name": "myservice",
        "Author": "Me",
        "Version": "1.0",
        "Short description": "None",
    }
    assert [name for name in settings if not name.startswith("_")] == list(settings["__prompts__"])
