"""kombu as its documentation shows it: a producer, a pool of them, ConsumerMixin."""

import kombu
import kombu.pools
from kombu.mixins import ConsumerMixin
from runner import BODY, Handled, measure_greenlets, measure_one_by_one


def single(job):
    """One producer; each publish waits for its confirm."""
    with connect(job, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer(serializer="json")
        exchange = kombu.Exchange(job["exchange"], "topic")

        def publish():
            producer.publish(BODY, exchange=exchange, routing_key=job["routing_key"])

        return measure_one_by_one(publish, job)


def pool(job):
    """Greenlets share a pool of so many producers, each with a connection that confirms."""
    connection = connect(job, transport_options={"confirm_publish": True})
    exchange = kombu.Exchange(job["exchange"], "topic")
    kombu.pools.set_limit(job["pool"])
    producers = kombu.pools.producers[connection]

    def publish():
        with producers.acquire(block=True) as producer:
            producer.publish(
                BODY, exchange=exchange, routing_key=job["routing_key"], serializer="json"
            )

    try:
        return measure_greenlets(publish, job)
    finally:
        kombu.pools.reset()


class Worker(ConsumerMixin):
    def __init__(self, job):
        self.connection = connect(job)
        self.handled = Handled(job)
        self._job = job

    def get_consumers(self, Consumer, channel):  # noqa: N803  # kombu's name
        queue = kombu.Queue(self._job["queue"], no_declare=True)
        return [
            Consumer(
                [queue],
                callbacks=[self.on_event],
                accept=["json"],
                prefetch_count=self._job["prefetch"],
            )
        ]

    def on_event(self, body, message):
        self.should_stop = self.handled(body)
        message.ack()


def consumer_mixin(job):
    """Acknowledge each message when it was handled."""
    worker = Worker(job)
    worker.run()
    return worker.handled.result()


def connect(job, **options):
    return kombu.Connection(
        hostname=job["host"],
        port=job["port"],
        userid=job["user"],
        password=job["password"],
        connect_timeout=10,
        **options,
    )
