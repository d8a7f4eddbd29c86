"""A real Prometheus asks live instances: each query of the dashboard finds what it is about."""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import pytest
import yaml

from gemstone_sync import RemoteService
from gemstone_sync.errors import RpcError
from tests.deployment.support import Instances, installed, make_project, on_ports, running
from tests.support.http import exchange, message
from tests.support.machine import free_port
from tests.support.waiting import wait_until

#: Brokers and outboxes are asked every 15 s.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Seconds for everything to be seen twice.
SEEN = 90.0


class Prometheus:
    """The one that runs.

    :param port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **parameters: str) -> object:
        """The data of an answer of its HTTP API."""
        path = f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        answer = exchange(self._port, message("GET", path)).json
        assert answer["status"] == "success", answer
        return answer["data"]

    def values_of(self, query: str) -> list[float]:
        found = self.get("query", query=query)["result"]
        return [float(each["value"][1]) for each in found]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, AssertionError):
            return exchange(self._port, message("GET", "/-/ready")).status == 200
        return False


@pytest.fixture
def watched(tmp_path):
    """The project, its instances, and a Prometheus that asks them by the project's own files."""
    project = make_project(tmp_path)
    shutil.copy(Path(__file__).with_name("watched.py"), project)
    with contextlib.ExitStack() as stack:
        instances = Instances(project, stack, words=["watched:Watched"])
        text = on_ports((project / "deploy" / "prometheus.yml").read_text(), instances.ports)
        assert "scrape_interval: 15s" in text
        # So that two samples come soon; rules are looked at when those are.
        text = text.replace("scrape_interval: 15s", "scrape_interval: 1s")
        config = project / "deploy" / "own.yml"
        config.write_text(f"global: {{evaluation_interval: 1s}}\n{text}")
        port = free_port()
        command = [
            installed("prometheus", "prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        program = stack.enter_context(running(command, tmp_path))
        prometheus = Prometheus(port)
        program.wait_until(prometheus.is_ready, "Prometheus")
        yield project, instances, prometheus


def call_all(url: str) -> None:
    with RemoteService(url) as client:
        methods = client.methods
        methods.say_hello(name="world")
        methods.ask(url)
        methods.emit()
        for call in (
            lambda: methods.mean([]),
            lambda: methods.no_such_method(),
            lambda: methods.take_long(),
            lambda: methods.hold_up(),
        ):
            with contextlib.suppress(RpcError):
                call()


def queries_of(project: Path) -> dict[str, str]:
    """Those of the dashboard, by panel and letter, with Grafana's variables filled in."""
    dashboard = json.loads((project / "deploy" / "grafana-dashboard.json").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    assert len(found) == sum(len(panel["targets"]) for panel in dashboard["panels"])
    assert not any("$" in query for query in found.values())
    return found


def test_each_query_and_rule_is_about_something(watched):
    project, instances, prometheus = watched
    urls = [f"http://127.0.0.1:{port}/api" for port in instances.ports]
    left = queries_of(project)
    assert len(left) > 20

    def all_seen():
        for url in urls:
            call_all(url)
        for name, query in list(left.items()):
            if any(value == value for value in prometheus.values_of(query)):  # not NaN only
                del left[name]
        return not left

    try:
        wait_until(all_seen, "an answer to each query", SEEN)
    finally:
        assert left == {}
    # One that took longer than the second of a scrape was down for that one.
    up = 'sum(up{job="myservice"})'
    wait_until(lambda: prometheus.values_of(up) == [2.0], "both instances")

    (group,) = prometheus.get("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}, group
    known = set(prometheus.get("label/__name__/values"))
    rules = yaml.safe_load((project / "deploy" / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        names = set(re.findall(r"(\w+)\{job=", rule["expr"]))
        assert names, rule
        assert names <= known, rule

    page = exchange(instances.ports[0], message("GET", "/metrics")).body
    promtool = [installed("promtool", "prometheus"), "check", "metrics"]
    done = subprocess.run(promtool, input=page, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert b"rpc_server_call_duration_seconds_bucket" in page
