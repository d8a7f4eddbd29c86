"""The manifest of Kubernetes, held against Kubernetes' own schemas: no cluster is needed."""

from pathlib import Path

from tests.cli.support import run_program
from tests.deployment.support import make_project
from tests.interop.packages import ISOLATED, MARKS, python_of

pytestmark = MARKS


def test_each_field_of_the_manifest_is_one(tmp_path):
    manifest = make_project(tmp_path) / "deploy" / "kubernetes.yaml"
    validate = Path(python_of("kubernetes-validate")).with_name("kubernetes-validate")
    done = run_program(validate, "--strict", manifest, cwd=tmp_path, env=ISOLATED)
    assert done.code == 0, done
    assert "deployment/myservice" in done.stdout + done.stderr
    text = manifest.read_text().replace("startupProbe:", "startProbe:")
    manifest.write_text(text)
    assert run_program(validate, "--strict", manifest, cwd=tmp_path, env=ISOLATED).code != 0
