"""py-amqp without anything above it: the least that a connection to RabbitMQ costs."""

import json
import time

import amqp
from runner import BODY, Handled, measure_one_by_one, measure_publishing

#: Messages that may wait for their confirms at once.
WINDOW = 100
#: Seconds for the broker to say anything.
LIMIT = 30


def one_by_one(job):
    """Each publish waits for its confirm."""
    with connect(job, confirm_publish=True) as connection:
        channel = connection.channel()

        def publish():
            channel.basic_publish(message(), job["exchange"], job["routing_key"])

        return measure_one_by_one(publish, job)


def windowed(job):
    """One caller, who waits only while a whole window is unconfirmed."""
    with connect(job) as connection:
        channel = connection.channel()
        channel.confirm_select()
        confirmed = 0

        def on_confirm(delivery_tag, multiple):
            nonlocal confirmed
            confirmed = max(confirmed, delivery_tag)

        channel.events["basic_ack"].add(on_confirm)
        sent = 0

        def publish_for(seconds):
            nonlocal sent
            before, end = sent, time.monotonic() + seconds
            while time.monotonic() < end:
                channel.basic_publish(message(), job["exchange"], job["routing_key"])
                sent += 1
                while sent - confirmed >= WINDOW:
                    connection.drain_events(timeout=LIMIT)
            while confirmed < sent:
                connection.drain_events(timeout=LIMIT)
            return sent - before

        return measure_publishing(publish_for, job)


def paced(job):
    """Publish ready messages at a rate, without confirms, as cheaply as can be; how many."""
    with connect(job) as connection:
        channel = connection.channel()
        sent, started = 0, time.monotonic()
        while (passed := time.monotonic() - started) < job["seconds"]:
            # A broker that is slower than the rate stops the writes: what is missed then is
            # caught up with in small steps, so that it ends in time.
            due = min(int(passed * job["rate"]), sent + 100)
            for _ in range(due - sent):
                ready = amqp.Message(job["body"], application_headers=job["headers"])
                ready.properties.update(job["properties"])
                channel.basic_publish(ready, job["exchange"], job["routing_key"])
            sent = max(sent, due)
            time.sleep(0.001)
        return {"sent": sent, "rate": sent / (time.monotonic() - started)}


def consume(job):
    """Acknowledge each message when its body was read."""
    handled = Handled(job)
    with connect(job) as connection:
        channel = connection.channel()
        channel.basic_qos(0, job["prefetch"], False)
        over = False

        def on_message(received):
            nonlocal over
            over = handled(json.loads(received.body))
            channel.basic_ack(received.delivery_tag)

        channel.basic_consume(job["queue"], callback=on_message)
        while not over:
            connection.drain_events(timeout=LIMIT)
    return handled.result()


def message():
    return amqp.Message(
        json.dumps(BODY), content_type="application/json", content_encoding="utf-8", delivery_mode=2
    )


def connect(job, **options):
    return amqp.Connection(
        f"{job['host']}:{job['port']}", job["user"], job["password"], connect_timeout=10, **options
    )
