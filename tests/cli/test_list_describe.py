"""``gemstone list`` and ``describe``: the services that there are, and what they can do."""

import json

import pytest

from gemstone_sync import HeaderValidationStrategy, MicroService, ServiceRegistry, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import run, run_process
from tests.support.faulty_server import FaultyServer, answer

GATE = "http://gate:80/api"
USERS = ["http://10.0.0.1:8000/api", "http://10.0.0.2:8000/api"]


class Shop(MicroService):
    name = "test.shop"
    validation_strategies = [HeaderValidationStrategy("X-Api-Token")]

    def api_token_is_valid(self, api_token):
        return api_token == "sesame"

    @exposed_method(private=True)
    def buy(self, what: str, pieces: int = 1) -> bool:
        """Buy something.

        It is sent at once:
            as a parcel.
        """

    @exposed_method()
    def undocumented(self, *words):
        return words


@pytest.fixture(scope="module")
def shop():
    with running_service(Shop) as service:
        yield service


@pytest.fixture(scope="module")
def registry(shop):
    with running_service(ServiceRegistry) as service:
        for name, url in [("users", USERS[1]), ("users", USERS[0]), ("gate", GATE)]:
            service.directory.add(name, url, "one", 3600)
        service.directory.add("gate", GATE, "two", 3600)
        service.directory.add("test.shop", shop.url, "one", 3600)
        yield service


# list


def test_the_services_of_a_registry_are_a_table(registry, shop):
    done = run_process("list", f"--registry={registry.url}")

    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "URL", "INSTANCES", "STATUS", "LAST", "PING"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["gate", GATE, "2", "fresh"],
        ["test.shop", shop.url, "1", "fresh"],
        ["users", USERS[0], "1", "fresh"],
        ["users", USERS[1], "1", "fresh"],
    ]
    assert all(line.endswith(" s ago") for line in lines[1:])
    assert len({line.index("http://") for line in lines[1:]}) == 1
    assert {line.index("fresh") for line in lines[1:]} == {lines[0].index("STATUS")}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("users", ["users"]), ("*.sh?p", ["test.shop"]), ("[gu]*", ["gate", "users"]), ("x", [])],
)
def test_a_pattern_chooses_among_them(registry, pattern, names):
    done = run("list", pattern, "--json", env={"GEMSTONE_REGISTRY": registry.url})

    assert (done.code, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert sorted(found) == names
    if "users" in names:
        assert sorted(place["url"] for place in found["users"]) == USERS


def test_no_service_is_fine(registry):
    done = run("list", "x*", "--registry", registry.url)

    assert done == (0, "", "[!] The registry knows no service that matches 'x*'\n")
    with running_service(ServiceRegistry) as empty:
        done = run("list", "--registry", empty.url)
    assert done == (0, "", "[!] The registry knows no service\n")


def test_other_registries_may_say_less():
    listing = {"users": [{"url": USERS[0]}], "\x1b[2Jx": [{"url": GATE, "status": None}]}
    with FaultyServer(answer(listing)) as registry:
        done = run("list", "--registry", registry.url)

    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        [r"\x1b[2Jx", GATE, "-", "None", "-"],
        ["users", USERS[0], "-", "-", "-"],
    ]


def test_all_pages_of_a_registry_are_listed():
    with running_service(ServiceRegistry) as service:
        for number in range(2500):
            service.directory.add(f"n{number:04}", f"http://a:{number + 1}/api")
        done = run("list", f"--registry={service.url}", "n*[!9]", "--json")
    assert list(json.loads(done.stdout)) == [f"n{n:04}" for n in range(2500) if n % 10 != 9]


# describe

BUY = """\
buy(what: str, pieces: int = 1) -> bool
    Buy something.

    It is sent at once:
        as a parcel.
"""


def telling(specs):
    """A service that tells this of itself."""
    server = FaultyServer()
    server.aside["get_service_specs"] = answer(specs)
    return server


def test_a_service_is_described_at_its_url(shop):
    done = run_process("describe", shop.url, "--token", "sesame")

    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"test.shop at {shop.url}\n\n")
    assert f"\n\n{BUY}\n" in done.stdout
    assert done.stdout.endswith("\n\nundocumented(*words)\n")
    assert "\n\nget_service_specs(signatures: bool = False) -> " in done.stdout
    assert "\n    Describe this service" in done.stdout


@pytest.mark.parametrize("name", ["test.shop", "test.*"])
def test_one_method_of_a_service_is_described_by_name(registry, name):
    words = ("describe", f"--registry={registry.url}", name, "buy")
    assert run(*words, "--token", "sesame") == (0, BUY, "")
    # It is private: others are told its name only.
    assert run(*words, "--token", "wrong") == run(*words) == (0, "buy\n", "")


def test_a_description_for_programs(shop):
    done = run("describe", shop.url, "buy", "--json", env={"GEMSTONE_TOKEN": "sesame"})

    assert done == (0, done.stdout, "")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {
        "name": "test.shop",
        "url": shop.url,
        "methods": {
            "buy": {
                "signature": "buy(what: str, pieces: int = 1) -> bool",
                "doc": "Buy something.\n\nIt is sent at once:\n    as a parcel.",
            }
        },
    }


def test_of_an_old_service_names_and_docs_are_known():
    specs = {"name": "old", "methods": {"a": "Does a.\n\n    Slowly.\x1b[2J", "b": None}}
    with telling(specs) as old:
        text = f"old at {old.url}\n\na\n    Does a.\n\n    Slowly.\\x1b[2J\n\nb\n"
        assert run("describe", old.url) == (0, text, "")
        described = json.loads(run("describe", old.url, "b", "--json").stdout)["methods"]
    assert described == {"b": {"signature": None, "doc": None}}
    with telling({"methods": {}}) as nameless:
        assert run("describe", nameless.url) == (0, f"{nameless.url}\n", "")


def test_the_token_and_headers_go_along():
    with telling({"name": "x", "methods": {}}) as service:
        done = run(
            *("describe", service.url, "--header", "Authorization: Bearer abc"),
            env={"GEMSTONE_TOKEN": "sesame"},
        )

    assert done == (0, f"x at {service.url}\n", "")
    (request,) = service.asked_aside
    assert request.headers.get("X-Api-Token") == "sesame"
    assert request.headers.get("Authorization") == "Bearer abc"
