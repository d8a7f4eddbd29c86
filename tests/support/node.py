"""Node's tools, which read our documents as others will: installed once, where node is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["node_modules", "run_node"]

#: Of one kind, so of one folder. Apache-2.0 and MIT.
PACKAGES = {
    "@asyncapi/parser": "3.6.0",
    "@open-rpc/schema-utils-js": "2.2.1",
    "@open-rpc/spec": "1.4.1",
    "@open-rpc/test-coverage": "2.2.4",
}


def node_modules(packages: dict[str, str] = PACKAGES) -> Path:
    """The folder with the packages; installed when it is not there yet (a minute or more).

    Skips the test where there is no node, but for CI, which has it.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("CI has node and npm")
        pytest.skip("needs node and npm")
    wanted = json.dumps({"private": True, "dependencies": packages}, sort_keys=True)
    name = f"gemstone_sync-node-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    folder = Path(os.environ.get("GEMSTONE_TEST_CACHE", tempfile.gettempdir())) / name
    if not folder.exists():
        made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
        (made / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=made, check=True, timeout=800, capture_output=True)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(made)
    return folder


def run_node(script: Path, *words: str, modules: Path, timeout: float = 200) -> str:
    """Run a script of ours; what it prints, when it ends well."""
    done = subprocess.run(
        ["node", str(script), *words],
        env={**os.environ, "NODE_MODULES_OF": str(modules)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
