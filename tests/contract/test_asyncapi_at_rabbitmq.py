"""What a document says of RabbitMQ, against what the broker has."""

from gemstone_sync import RabbitMqEventTransport
from gemstone_sync.testing import ServiceClient, running_service
from tests.contract.everything import Flat
from tests.support.rabbitmq import connect
from tests.support.waiting import wait_until, why_not_ready


def test_the_broker_has_what_the_document_says(shared_broker):
    application = shared_broker.new_application()
    transport = RabbitMqEventTransport.from_url(shared_broker.url, application=application)

    with running_service(Flat, event_transports=[transport]) as service:
        # A start does not wait for a slow broker.
        wait_until(lambda: not why_not_ready(service), "the queues")
        document = ServiceClient(service).call("rpc.asyncapi")
        found = [channel["bindings"]["amqp"] for channel in document["channels"].values()]
        exchanges = {
            each["exchange"]["name"]: each["exchange"] for each in found if "exchange" in each
        }
        queues = {each["queue"]["name"]: each["queue"] for each in found if "queue" in each}
        with connect(shared_broker.url) as connection:
            channel = connection.channel()
            for name, told in exchanges.items():  # refused by the broker when it is another kind
                channel.exchange_declare(
                    name,
                    told["type"],
                    durable=told["durable"],
                    auto_delete=told["autoDelete"],
                    # Of the exchange for work; AsyncAPI has no word for it.
                    arguments={"alternate-exchange": f"{name}.patterns"}
                    if name == f"{application}.work"
                    else {},
                )
            for name in queues:
                if "{instance}" not in name:  # known when it runs
                    channel.queue_declare(name, passive=True)

    assert set(exchanges) == {f"{application}{end}" for end in (".events", ".keyed", ".work")}
    assert f"{application}:1:service:everything:order.placed" in queues
    assert f"{application}:1:dead" in queues
