"""How transports are made, and what is said of options and addresses that there are not."""

import pytest

from gemstone_sync import (
    EventEmitter,
    KombuEventTransport,
    MemoryEventTransport,
    RabbitMqEventTransport,
    RedisEventTransport,
    ServiceConfigurationError,
    SqliteEventTransport,
    transport_from_url,
)


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("amqp://ada:s3cret@rabbit/shop", RabbitMqEventTransport, "(amqp://rabbit:5672/shop)"),
        ("AMQP://ada:s3cret@rabbit", RabbitMqEventTransport, "(amqp://rabbit:5672/%2F)"),
        ("amqps://ada:s3cret@[::1]", RabbitMqEventTransport, "(amqps://[::1]:5671/%2F)"),
        ("redis://:s3cret@r:6380/2", RedisEventTransport, "(redis://r:6380/2)"),
        ("sqlite:////tmp/e.db", SqliteEventTransport, "(/tmp/e.db)"),
        ("/tmp/e.db", SqliteEventTransport, "(/tmp/e.db)"),
        ("memory://", MemoryEventTransport, ""),
        ("filesystem://", KombuEventTransport, "(filesystem://)"),
    ],
)
def test_a_url_chooses_the_transport_and_its_password_is_never_shown(url, kind, shown):
    transport = transport_from_url(url)
    assert type(transport) is kind
    assert str(transport) == f"{kind.__name__}{shown}"
    assert "s3cret" not in repr(vars(transport).get("topology"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"aplication": "shop"}, "no option aplication; did you mean application"),
        ({"heartbeat_interval": 5}, "it is called heartbeat here"),
        ({"connection_attempts": 5}, "retried for ever"),
        ({"pool_size": 0}, "pool_size is a whole number above 0"),
        ({"heartbeat": 0.5}, "heartbeat is a number of seconds from 1"),
        ({"shards": "4"}, "shards is a whole number above 0"),
        ({"application": "a b"}, "application is a text of letters"),
        ({"path": "x.db", "lease": 0.1}, "lease is a number of seconds"),
    ],
)
def test_a_wrong_option_is_answered_with_what_is_right(options, match):
    kind = SqliteEventTransport if "path" in options else RabbitMqEventTransport
    with pytest.raises(ServiceConfigurationError, match=match):
        kind(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RabbitMqEventTransport.from_url("redis://x"),
        lambda: RabbitMqEventTransport.from_url("amqp://u:s3/cret@x:y/"),
        lambda: RedisEventTransport("http://u:s3cret@x"),
        lambda: SqliteEventTransport("sqlite://"),
        lambda: SqliteEventTransport("http://u:s3cret@x"),
        lambda: KombuEventTransport("nothing"),
    ],
)
def test_a_wrong_url_is_answered_with_an_example(make):
    with pytest.raises(ServiceConfigurationError, match=r"is like|like '") as caught:
        make()
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("amqp://x", "RabbitMqEventTransport"),
        ("librabbitmq://x", "RabbitMqEventTransport"),
        ("redis://x", "RedisEventTransport"),
        ("sqlite:///x", "SqliteEventTransport"),
    ],
)
def test_kombus_transport_for_what_has_a_better_one_is_refused(url, name):
    with pytest.raises(ServiceConfigurationError, match=name):
        KombuEventTransport(url)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("localhost:5672", "amqp://localhost:5672"),
        ("127.0.0.1:6379", "redis://127.0.0.1:6379"),
        ("[::1]:5672", r"amqp://\[::1\]:5672"),
        ("rabbit:5672/shop", "amqp://rabbit:5672/shop"),
        ("rabbit", "amqp://rabbit or sqlite:///rabbit"),
        ("rabbit.example.org?heartbeat=3", "amqp://rabbit.example.org or sqlite"),
        ("ampq://h", "amqp://"),
        ("AMQSP://h", "amqp"),
        ("rabbitmq://h", "amqp://"),
        ("sqllite:///x", "sqlite://"),
    ],
)
@pytest.mark.parametrize("make", [transport_from_url, EventEmitter])
def test_a_place_without_a_scheme_or_with_a_misspelt_one_is_refused(url, meant, make):
    with pytest.raises(ServiceConfigurationError, match=f"did you mean {meant}"):
        make(url)


def test_a_scheme_that_nobody_has_is_answered_with_those_that_there_are():
    with pytest.raises(ServiceConfigurationError, match="postgresql://; there are amqp://"):
        transport_from_url("postgresql://ada:pw@h")


def test_who_uses_no_rabbitmq_loads_no_library_for_it(run_python):
    done = run_python(
        "import sys, gemstone_sync.event.transport; print({'amqp', 'kombu'} & {*sys.modules})"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    "path", ["events.db", "Events.SQLITE3", "var/events", "./events", "sqlite:///events"]
)
def test_the_path_of_a_file_needs_no_scheme(path):
    assert isinstance(transport_from_url(path), SqliteEventTransport)
