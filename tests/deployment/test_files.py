"""The files in ``deploy/``: those who read them find no fault with them."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cli.support import run
from tests.deployment import alerts
from tests.deployment.support import (
    NAME,
    haproxy_command,
    installed,
    make_certificates,
    make_project,
    nginx_command,
)
from tests.support.machine import free_port


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("made"))


def check(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def test_nginx_and_haproxy_take_their_files(project, tmp_path):
    make_certificates(tmp_path)
    ports = [free_port(), free_port()]
    nginx = nginx_command(project, tmp_path, tmp_path, free_port(), ports)
    assert "warn" not in check(*nginx, "-t")
    haproxy = haproxy_command(project, tmp_path, tmp_path, free_port(), ports)
    assert "WARNING" not in check(*haproxy, "-c")


def test_prometheus_takes_its_files(project):
    """The configuration leads to the rules."""
    said = check(
        installed("promtool", "prometheus"), "check", "config", _of(project, "prometheus.yml")
    )
    assert "FAILED" not in said
    assert "9 rules found" in said


@pytest.mark.parametrize("name", ["Odd_Name", "on"])
def test_a_name_is_text_in_all_of_them(tmp_path, name):
    assert run("new", name, cwd=tmp_path).code == 0
    slug = name.lower().replace("_", "-")
    deploy = tmp_path / name / "deploy"
    check(installed("promtool", "prometheus"), "check", "config", str(deploy / "prometheus.yml"))
    for file in ("nginx.conf", "haproxy.cfg"):
        assert f"/etc/ssl/{slug}/" in (deploy / file).read_text()
        assert NAME not in (deploy / file).read_text()


def _of(project: Path, name: str) -> str:
    return str(project / "deploy" / name)


# Alerts


def rules_of(project: Path) -> list[dict]:
    (group,) = yaml.safe_load(Path(_of(project, "alerts.yml")).read_text())["groups"]
    return group["rules"]


def with_job(series: str) -> str:
    return series.replace("{", f'{{job="{NAME}", ', 1)


def unit_test(alert: str, series: list, minutes: int, fires: list[dict]) -> dict:
    return {
        "interval": "1m",
        "input_series": [{"series": with_job(name), "values": text} for name, text in series],
        "alert_rule_test": [
            {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": fires},
        ],
    }


def test_each_alert_fires_when_it_should_and_is_quiet_otherwise(project, tmp_path):
    """By promtool's unit tests of rules, with all that an alert says."""
    rules = {rule["alert"]: rule for rule in rules_of(project)}
    assert {alert for alert, *_ in alerts.FIRES} == set(rules)
    assert {alert for alert, *_ in alerts.IS_QUIET} == set(rules)
    tests = [unit_test(*case, []) for case in alerts.IS_QUIET]
    for alert, series, minutes, labels in alerts.FIRES:
        severity = {"severity": rules[alert]["labels"]["severity"]}
        job = {"job": NAME} if alert in HAVE_JOB else {}
        said = {"summary": SAID[alert]}
        fires = [
            {"exp_labels": {**severity, **job, **own}, "exp_annotations": said} for own in labels
        ]
        tests.append(unit_test(alert, series, minutes, fires))
    path = tmp_path / "tests.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [_of(project, "alerts.yml")], "tests": tests}), "utf-8"
    )
    said = check(installed("promtool", "prometheus"), "test", "rules", str(path))
    assert "SUCCESS" in said


#: Those that are told of a series as it is.
HAVE_JOB = {"InstanceDown", "WorkersDie"}

SAID = {
    "InstanceDown": "a:1 of myservice has not answered Prometheus for 2 minutes",
    "CallsFail": "10% of the calls of myservice end with an exception or at their deadline",
    "CallsAreSlow": "of the calls of m one in 20 takes over 2.125s",
    "Overloaded": "myservice refuses calls: all places are taken (max_parallel_blocking_tasks, "
    "max_waiting_calls)",
    "HubBlocked": "m holds up everything else; the log has the line",
    "WorkersDie": "workers of a:1 end again and again",
    "DeadLetters": "events e were given up: gemstone_sync.event.deadletters lists and replays them",
    "EventsWait": "1001 events wait in q",
    "OutboxStuck": "a:1 has not got rid of events for 15m 0s: is the broker there?",
}
