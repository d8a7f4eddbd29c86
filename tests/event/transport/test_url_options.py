"""Options of transports in their URLs: all count, and what is none is told."""

import contextlib
import ssl

import pytest

import gemstone_sync
from gemstone_sync import (
    KombuEventTransport,
    MemoryEventTransport,
    MicroService,
    RabbitMqEventTransport,
    RedisEventTransport,
    ServiceConfigurationError,
    SqliteEventTransport,
    transport_from_url,
)
from gemstone_sync.cli.brokers import transport_of
from gemstone_sync.event.transport.urls import options_of
from tests.cli.support import run
from tests.support.machine import free_port
from tests.support.redis import REDIS_URL, shared_redis

#: A value of each option, as it stands in a URL and as the transport has it.
VALUES = {
    "application": ("shop", "shop"),
    "pool_size": ("7", 7),
    "service": ("mine", "mine"),
    "shards": ("8", 8),
    "lease": ("2m", 120.0),
    "delivery_limit": ("4", 4),
    "virtual_host": ("a%2Fb", "a/b"),
    "heartbeat": ("3", 3.0),
    "consumer_timeout": ("1h", 3600.0),
    "connect_timeout": ("500ms", 0.5),
    "ssl": ("true", True),
    "login_method": ("AMQPLAIN", "AMQPLAIN"),
    "alternates": ("amqp%3A%2F%2Fb", ["amqp://b"]),
    "accept_loss": ("yes", True),
    "transport_options": ("%7B%22polling_interval%22%3A+1%7D", {"polling_interval": 1}),
}
PLACES = {
    RabbitMqEventTransport: "amqp://rabbit",
    RedisEventTransport: "redis://redis",
    SqliteEventTransport: "sqlite:///events.db",
    MemoryEventTransport: "memory://",
    KombuEventTransport: "filesystem://",
}
OPTIONS = [(cls, name) for cls in PLACES for name in options_of(cls)]


def state(transport):
    """All that a transport has been told."""
    held = dict(vars(transport))
    for made in ("_publisher", "_store", "_handlers", "_receptions", "_places", "_known"):
        held.pop(made, None)
    return {**held, "topology": vars(transport.topology), "pool": transport._places.limit}


@pytest.mark.parametrize(("cls", "name"), OPTIONS, ids=lambda one: getattr(one, "__name__", one))
def test_every_option_counts_in_the_url_as_in_code(cls, name):
    text, value = VALUES[name]
    in_url = transport_from_url(f"{PLACES[cls]}?{name}={text}")
    if name == "ssl":  # has a port of its own in URLs
        in_code = RabbitMqEventTransport("rabbit", 5671, ssl=True)
    elif cls in (RedisEventTransport, KombuEventTransport):
        in_code = cls(PLACES[cls], **{name: value})
    elif cls is SqliteEventTransport:
        in_code = cls("events.db", **{name: value})
    else:
        in_code = cls(*["rabbit"][: cls is RabbitMqEventTransport], **{name: value})
    assert state(in_url) == state(in_code)
    assert state(in_url) != state(transport_from_url(PLACES[cls]))


@pytest.mark.parametrize("cls", PLACES, ids=lambda cls: cls.__name__)
def test_an_option_that_there_is_not_is_told_in_code_too(cls):
    places = [] if cls in (RabbitMqEventTransport, MemoryEventTransport) else [PLACES[cls]]
    with pytest.raises(ServiceConfigurationError, match=r"no option pol_size; did you mean pool_s"):
        cls(*places, pol_size=3)


def test_what_is_said_in_code_counts_more():
    transport = transport_from_url("amqp://h/v?application=a&virtual_host=w&shards=2", shards=3)
    assert (transport.topology.application, transport.topology.shards) == ("a", 3)
    assert str(transport) == "RabbitMqEventTransport(amqp://h:5672/w)"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("amqp://h?foo=bar", ["no option foo", "application", "heartbeat", "ssl_ca_certs"]),
        ("amqp://h?applicaton=x", ["did you mean application"]),
        ("amqp://h?HEARTBEAT=3", ["did you mean heartbeat"]),
        ("amqp://h?ssl_foo=1", ["no option ssl_foo", "ssl_certfile"]),
        ("redis://h?foo=1", ["no option foo", "lease", "socket_timeout", "ssl_ca_certs"]),
        ("redis://h?ssl_ca_certs=/x", ["no option ssl_ca_certs", "with rediss://"]),
        ("events.db?foo=1", ["no option foo", "lease"]),
        ("memory://?lease=9&foo", ["no option foo"]),
        ("filesystem://?foo=1", ["no option foo", "transport_options", "login_method"]),
        ("amqp://h?heartbeat=abc", ["heartbeat must be a number of seconds", "'abc'"]),
        ("amqp://h?heartbeat=-1", ["heartbeat"]),
        ("amqp://h?connect_timeout=0", ["connect_timeout is a number of seconds"]),
        ("amqp://h?delivery_limit=0", ["delivery_limit is a whole number above 0"]),
        ("amqp://h?pool_size", ["pool_size must be a whole number"]),
        ("amqp://h?application=a%20b", ["application is a text of letters"]),
        ("amqp://h?heartbeat=3&heartbeat=4", ["heartbeat is given twice"]),
        ("amqp://a?heartbeat=3;amqp://b?heartbeat=4", ["heartbeat is given twice"]),
        ("amqp://h?ssl_cert_reqs=maybe", ["ssl_cert_reqs must be required, optional or none"]),
        ("amqps://h?ssl=false", ["ssl=false"]),
        ("amqp://h?ssl=perhaps", ["ssl must be"]),
        ("redis://h?socket_timeout=abc", ["socket_timeout"]),
        ("sqlite:///e.db?lease=0.1", ["lease is a number of seconds from 1"]),
        ("filesystem://?accept_loss=maybe", ["accept_loss must be true or false"]),
        ("filesystem://?transport_options=x", ["transport_options must be"]),
        # What is no query, but the end of a password.
        ("amqp://u:p?cr3t@h", ["is like"]),
        ("amqp://u:2024?cr3t=1@h", ["is like"]),
        ("amqp://to?cr3t@h", ["is like"]),
        ("amqp://u:p?cr3t", ["is like"]),
        ("amqp://u:p@[::1?cr3t", ["is like"]),
        # Of kombu's forms, those that are several places at once.
        ("amqp://a,b", ["is like"]),
        ("amqp://a;b", ["is like"]),
        ("redis://a;redis://b", ["is like"]),
        ("memory", ["did you mean"]),
        ("file:events.db", ["sqlite:///"]),
        ("amqp:/u:cr3t@h", ["amqp://host"]),
    ],
)
def test_what_cannot_count_is_told_in_one_line(url, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServiceConfigurationError) as caught:
        transport_from_url(url)
    for part in parts:
        assert part in str(caught.value)
    assert "cr3t" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "shop.py").write_text(
        "import gemstone_sync as g\nclass Shop(g.MicroService):\n    name = 'shop'\n"
    )
    done = run("config", "shop", env={"GEMSTONE_EVENT_TRANSPORTS": f'["{url}"]'}, cwd=tmp_path)
    assert done.code == 2
    assert done.stderr.startswith("shop: GEMSTONE_EVENT_TRANSPORTS: ")
    assert done.stderr.count("\n") == 1
    assert "cr3t" not in done.stderr


def test_the_environment_reaches_the_transport(monkeypatch):
    monkeypatch.setenv("GEMSTONE_EVENT_TRANSPORTS", "amqp://h/v?application=shop, e.db?lease=5")
    service = type("Shop", (MicroService,), {"name": "shop"})()
    service.configure([])
    first, second = service.event_transports
    assert first.topology.application == "shop"
    assert second.lease == 5


def test_the_commands_take_the_application_of_the_url():
    topology = transport_of("amqp://h?application=shop&shards=2").topology
    assert (topology.application, topology.shards) == ("shop", 2)
    assert transport_of("amqp://h").topology.application == "gemstone"


def test_a_database_in_memory_is_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in (":memory:", "sqlite:///:memory:", ":memory:?lease=5", "memory://?"):
        transport = transport_from_url(url, shards=2)
        assert type(transport) is MemoryEventTransport
        assert transport.lease == (5 if "?l" in url else 60)
    for place in (":memory:", "sqlite:///:memory:"):
        with pytest.raises(ServiceConfigurationError, match="memory://"):
            SqliteEventTransport(place)
    assert list(tmp_path.iterdir()) == []


def test_options_of_tls_reach_py_amqp():
    url = "amqp://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none&ssl_keyfile=/k"
    tls = {"ca_certs": "/ca.pem", "cert_reqs": ssl.CERT_NONE, "keyfile": "/k"}
    for transport in (transport_from_url(url), RabbitMqEventTransport("h", 5671, ssl=tls)):
        (description,) = transport.make_link("x")._descriptions
        assert description.ssl == tls
        assert (description.port, str(transport)) == (
            5671,
            "RabbitMqEventTransport(amqps://h:5671/%2F)",
        )


def test_options_of_redis_py_reach_it():
    url = "rediss://h:1/0?ssl_cert_reqs=none&socket_timeout=3&client_name=me&lease=9&shards=2"
    options = transport_from_url(url)._make_store()._client._new_pool().connection_kwargs
    assert options["socket_timeout"] == 3
    assert (options["client_name"], options["ssl_cert_reqs"]) == ("me", "none")
    assert "lease" not in options


def test_events_go_through_redis_with_options_of_both():
    with shared_redis() as prefix:
        application = prefix.rstrip(":")
        url = f"{REDIS_URL}?application={application}&lease=5&client_name=tests&socket_timeout=3"
        url += "&protocol=3&decode_responses=true"  # for others, who share the URL
        with gemstone_sync.EventEmitter(url) as emitter:
            assert emitter.emit_event("x", 1)
        store = transport_from_url(url)._make_store()
        with contextlib.closing(store):
            store.take([], 5)  # which subscribes
            assert store._subscription.has_news() is False


def test_several_rabbitmqs_are_tried_in_turn(shared_broker):
    application = shared_broker.new_application()
    nowhere = f"amqp://nobody:pw@127.0.0.1:{free_port()}/shop"
    query = f"?application={application}&heartbeat=3&login_method=AMQPLAIN"
    transport = transport_from_url(f"{nowhere};{shared_broker.url}{query}")
    with transport.link() as link:
        assert link._connection.heartbeat == 3
    assert "nobody" not in str(transport)
    assert transport.emit_event("x", 1)
    transport.stop()


def test_alternates_and_further_urls_are_all_tried():
    transport = transport_from_url("amqp://a?alternates=amqp%3A%2F%2Fb;amqp://c")
    nodes = ";".join(f"amqp://{host}:5672/%2F" for host in "abc")
    assert str(transport) == f"RabbitMqEventTransport({nodes})"


def test_alternates_have_no_options_of_their_own():
    with pytest.raises(ServiceConfigurationError, match="without options"):
        RabbitMqEventTransport("a", alternates=["amqp://b?heartbeat=3"])
