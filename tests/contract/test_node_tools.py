"""What the tools of others say of our documents: npm's OpenRPC and AsyncAPI validators.

Slow: npm installs 250 packages the first time, and node starts for each test.
"""

import json
from pathlib import Path

import jsonschema
import pytest
import requests

from gemstone_sync.testing import ServiceClient, running_service
from tests.contract.everything import Everything, Flat
from tests.support.node import node_modules, run_node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECK = Path(__file__).parent / "node" / "check.mjs"


def read(tmp_path, kind, document):
    file = tmp_path / "document.json"
    file.write_text(json.dumps(document))
    return run_node(CHECK, kind, str(file), modules=node_modules())


@pytest.mark.parametrize("version", ["1.4.1", "1.3.2"])
@pytest.mark.parametrize(
    ("service", "kind"), [(Flat, "openrpc"), (Everything, "openrpc-recursive")]
)
def test_openrpc_is_accepted(tmp_path, service, kind, version):
    document = ServiceClient(service()).call("rpc.discover", version)

    read(tmp_path, kind, document)
    folder = "1_4" if version == "1.4.1" else "1_3"
    path = node_modules() / "node_modules/@open-rpc/spec/dist" / folder / "schema.json"
    schema = json.loads(path.read_text())
    # Its JSONSchema is that of draft 7, by an address; ours are checked as 2020-12 elsewhere.
    schema["definitions"]["JSONSchema"] = {}
    del schema["$schema"], schema["$id"]
    jsonschema.Draft7Validator(schema).validate(document)


@pytest.mark.parametrize("service", [Flat, Everything])
def test_asyncapi_is_accepted(tmp_path, service):
    document = ServiceClient(service()).call("rpc.asyncapi")

    assert "operations" in read(tmp_path, "asyncapi", document)


def test_the_live_service_does_what_its_document_says(tmp_path):
    with running_service(Flat) as service:
        document = requests.get(f"{service.url}/openrpc.json?version=1.3.2", timeout=10).json()
        assert document["servers"][0]["url"] == service.url
        told = read(tmp_path, "openrpc-coverage", document)
    assert int(told.split(" calls")[0].split()[-1]) >= 10
