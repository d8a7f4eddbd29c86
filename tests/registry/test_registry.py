"""A registry as services and callers use it: over HTTP, in both of the document's forms."""

import logging

import pytest

from gemstone_sync import (
    AccessDenied,
    BearerToken,
    HeaderToken,
    InvalidParams,
    RemoteError,
    RemoteService,
    ServiceConfigurationError,
)
from gemstone_sync.registry import RegistrationRefused, ServiceRegistry
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.http import JSON, Connection, call_body, exchange, message

A, B = "http://10.0.0.1:8000/api", "https://users.example.org/api"


@pytest.fixture
def client(run_registry):
    return run_registry()[1].methods


def test_what_pings_is_located(client):
    assert client.ping("shop.users", A) is True
    assert client.ping(name="shop.users", url=B, instance="one", interval=5) is True
    assert client.ping("shop.orders", "10.0.0.2", 8001, 60) is True
    assert client.ping(name="shop.stock", host="2001:db8::1", port=80) is True

    assert client.locate_service("shop.users") == [A, B]
    orders, stock = "http://10.0.0.2:8001/api", "http://[2001:db8::1]:80/api"
    assert client.locate_service(name="shop.[so]*") == [orders, stock]
    assert client.locate_service("nobody") == client.locate_service("") == []


@pytest.mark.parametrize(
    ("params", "at_fault"),
    [
        ({"name": "users"}, "url"),
        (["users"], "url"),
        ({"url": A}, "name"),
        ({"name": "users", "host": "a"}, "port"),
        ({"name": "users", "port": 80}, "host"),
        ({"name": "users", "url": A, "port": 80}, "url"),
        ({"name": "users", "url": A, "host": "a", "port": 80}, "url"),
        ({"name": "users", "url": A, "instance": 80}, "instance"),
        ({"name": "users", "instance": 80}, "instance"),
        ({"name": "users", "url": "a", "instance": 80, "port": 80}, "port"),
        ({"name": "users", "url": "a", "instance": 80, "host": "a"}, "host"),
        ({"name": "users", "host": "a", "port": "80"}, "port"),
        ({"name": "users", "host": "a", "port": True}, "port"),
        ({"name": "users", "host": "a", "port": 80.5}, "port"),
        ({"name": ["users"], "url": A}, "name"),
        ({"name": "users", "url": 1}, "url"),
        ({"name": "users", "url": A, "interval": "5"}, "interval"),
        ({"name": "users", "url": A, "instance": True}, "instance"),
        ({"name": "users", "url": A, "adress": "a"}, "adress"),
    ],
)
@pytest.mark.parametrize("method", ["ping", "goodbye"])
def test_parameters_that_do_not_fit_are_named(client, method, params, at_fault):
    args, kwargs = (params, {}) if isinstance(params, list) else ((), params)
    with pytest.raises(InvalidParams) as caught:
        getattr(client, method)(*args, **kwargs)

    assert at_fault in [fault["name"] for fault in caught.value.data["parameters"]]
    assert client.locate_service("*") == []


@pytest.mark.parametrize(
    ("method", "params", "why"),
    [
        *(("ping", {"url": A, "interval": each}, "seconds above 0") for each in (0, -1, -0.5)),
        *(
            (method, {"url": A, "instance": instance}, "instance")
            for method in ("ping", "goodbye")
            for instance in ("", "a b", "x" * 129, "é", "a\nb")
        ),
        ("locate_service", {"name": "*" * 129}, "128"),
        ("list_services", {"name": "*" * 129}, "128"),
    ],
)
def test_what_is_refused_is_told_why(client, method, params, why):
    with pytest.raises(RemoteError, match=why):
        getattr(client, method)(**{"name": "users", **params})


def test_a_name_of_1_mb(run_registry):
    registry, client = run_registry()
    with Connection(registry.port) as connection:
        body = call_body("ping", "x" * 1_000_000, A)
        reply = connection.exchange(message("POST", "/api", JSON, body))
    with pytest.raises(RemoteError, match="900000 characters, 128 are the most") as caught:
        client.methods.ping("x" * 900_000, A)

    assert reply.status == 413
    assert reply.json["error"]
    assert caught.value.code == RegistrationRefused.code
    assert len(str(caught.value)) < 1000
    assert client.methods.list_services() == {}


def test_goodbye_in_both_forms(client):
    client.ping("users", A, "one")
    client.ping("users", "10.0.0.2", 8001)
    client.ping("users", "10.0.0.3", 8001)

    assert client.goodbye("users", A, "one") is True
    assert client.goodbye("users", "10.0.0.2", 8001) is True
    assert client.goodbye(name="users", host="10.0.0.3", port=8001) is True

    assert client.goodbye("users", A, "one") is False
    assert client.ping("users", A, "one") is False, "a late ping brings it back"
    assert client.locate_service("users") == []


def test_the_list(client):
    assert client.list_services() == {}
    client.ping("users", A, "one")
    client.ping("users", A, "two")
    client.ping("users", A, "three")
    client.goodbye("users", A, "three")
    client.ping("orders", B)

    listing = client.list_services()
    assert list(listing) == ["orders", "users"]
    (users,) = listing["users"]
    assert (users["url"], users["instances"], users["status"]) == (A, 2, "fresh")
    assert 0 <= users["last_ping_seconds_ago"] <= users["registered_seconds_ago"] < 60
    assert list(client.list_services("u*")) == ["users"]


def test_limits(run_registry):
    client = run_registry(max_entries=3, max_per_name=2)[1].methods
    client.ping("users", A, "one")
    client.ping("users", A, "two")
    with pytest.raises(RemoteError, match="users has 2 entries") as caught:
        client.ping("users", B)
    assert caught.value.code == RegistrationRefused.code
    client.ping("orders", A)
    with pytest.raises(RemoteError, match="3 entries"):
        client.ping("stock", A)

    assert client.ping("users", A, "two") is True


TOKEN = "correct-horse"


@pytest.mark.parametrize("token", [HeaderToken(TOKEN), BearerToken(TOKEN)])
def test_with_its_token_a_service_is_taken(run_registry, token):
    registry, anyone = run_registry(token=TOKEN)
    with RemoteService(registry.url, authentication_method=token) as service:
        service.methods.ping("users", A, "one")
        assert anyone.methods.locate_service("users") == [A]
        service.methods.goodbye("users", A, "one")

    assert anyone.methods.list_services() == {}


@pytest.mark.parametrize(
    "token",
    [
        *(HeaderToken(token) for token in ("wrong", TOKEN + "x", TOKEN[:-1], "corr\xe9ct")),
        *(None, BearerToken("wrong"), HeaderToken(TOKEN, header="Authorization"), ("user", TOKEN)),
    ],
)
def test_without_the_token_nothing_changes(run_registry, token):
    registry, anyone = run_registry(token=TOKEN)
    registry.directory.add("users", A, "one")
    with RemoteService(registry.url, authentication_method=token) as service:
        for change in (service.methods.ping, service.methods.goodbye):
            with pytest.raises(AccessDenied):
                change("users", B, "two")
            with pytest.raises(AccessDenied):
                change("users", "javascript:alert(1)")

    assert anyone.methods.locate_service("users") == [A]


def test_the_token_is_not_told_to_anyone(run_registry, caplog):
    with caplog.at_level(logging.DEBUG):
        registry, client = run_registry(token=TOKEN)
        with pytest.raises(AccessDenied):
            client.methods.ping("users", A)
        with Connection(registry.port) as connection:
            page = connection.exchange(message("GET", "/")).body.decode()

    said = [str(client.methods.get_service_specs()), str(registry.get_current_configuration())]
    said += [page, caplog.text, repr(registry)]
    assert not [text for text in said if TOKEN in text]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", 5),
        ("state", "/dev/null"),
        ("ttl", 0),
        ("ttl", -1),
        *(("token", token) for token in ("", "a b", "tok\xe9n", "a\n", "x" * 1001, b"bytes", 5)),
    ],
)
def test_wrong_attributes_are_named(name, value):
    with (
        pytest.raises(ServiceConfigurationError, match=name) as caught,
        running_service(ServiceRegistry(), **{name: value}),
    ):
        pass
    assert name != "token" or not value or str(value) not in str(caught.value)


def test_in_process_without_a_start():
    client = ServiceClient(ServiceRegistry())
    client.call("ping", "users", A)

    assert client.call("locate_service", "*") == [A]


def test_its_methods_may_be_repeated_and_are_documented(client):
    specs = client.get_service_specs()

    for name in ("ping", "goodbye", "locate_service", "list_services"):
        assert name in specs["idempotent_methods"]
        assert specs["methods"][name]


def test_the_page_takes_the_place_of_a_call(run_registry):
    registry, _ = run_registry(max_parallel_blocking_tasks=1, max_waiting_calls=0)
    page = message("GET", "/")
    assert exchange(registry.port, page).status == 200
    registry.dispatcher.slots.acquire()
    try:
        assert exchange(registry.port, page).status == 503
    finally:
        registry.dispatcher.slots.release()
    assert exchange(registry.port, page).status == 200
