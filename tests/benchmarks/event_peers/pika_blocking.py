"""pika's BlockingConnection, as its documentation shows it."""

import json

import pika
from runner import BODY, Handled, measure_one_by_one


def publish(job):
    """With ``confirm_delivery``: each publish waits for its confirm."""
    connection = connect(job)
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)

    def publish_one():
        channel.basic_publish(job["exchange"], job["routing_key"], json.dumps(BODY), properties)

    try:
        return measure_one_by_one(publish_one, job)
    finally:
        connection.close()


def consume(job):
    """Acknowledge each message when its body was read."""
    handled = Handled(job)
    connection = connect(job)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=job["prefetch"])

    def on_message(channel, method, properties, body):
        over = handled(json.loads(body))
        channel.basic_ack(method.delivery_tag)
        if over:
            channel.stop_consuming()

    channel.basic_consume(job["queue"], on_message)
    channel.start_consuming()
    connection.close()
    return handled.result()


def connect(job):
    credentials = pika.PlainCredentials(job["user"], job["password"])
    parameters = pika.ConnectionParameters(job["host"], job["port"], credentials=credentials)
    return pika.BlockingConnection(parameters)
