"""nameko's EventDispatcher and event_handler, in a service's container under eventlet."""

import time

import eventlet
from eventlet.event import Event
from nameko.containers import ServiceContainer, WorkerContext
from nameko.events import EventDispatcher, event_handler
from runner import BODY, Failed, Handled, measure_publishing, until

#: Seconds for all messages to be handled.
LIMIT = 120


def dispatch(job):
    """Dispatch events from as many workers as asked for; each waits for its confirm."""

    class Emitter:
        name = job["application"]
        dispatch = EventDispatcher()

        @event_handler(name, "nothing")
        def handle(self, body):
            pass

    container = started(Emitter, job, job["greenlets"])
    dispatcher = next(each for each in container.dependencies)
    context = WorkerContext(container, Emitter(), next(iter(container.entrypoints)))
    dispatch_event = dispatcher.get_dependency(context)

    def publish():
        dispatch_event(job["routing_key"], BODY)

    def publish_for(seconds):
        end = time.monotonic() + seconds
        running = [eventlet.spawn(until, end, publish) for _ in range(job["greenlets"])]
        return sum(each.wait() for each in running)

    try:
        return measure_publishing(publish_for, job)
    finally:
        container.kill()


def handler_of(job, on_event):
    class Bench:
        name = "bench"

        @event_handler(job["application"], job["routing_key"])
        def handle(self, body):
            on_event(body)

    return started(Bench, job, job["prefetch"])


def declare(job):
    """Have the queue made, so that it can be filled."""
    container = handler_of(job, print)
    container.stop()


def handle(job):
    """nameko's prefetch is the number of its workers."""
    handled, over = Handled(job), Event()

    def on_event(body):
        if handled(body) and not over.ready():
            over.send()

    container = handler_of(job, on_event)
    with eventlet.Timeout(LIMIT, Failed(f"not all handled within {LIMIT} s")):
        over.wait()
    container.kill()
    return handled.result()


def started(service, job, workers):
    url = f"amqp://{job['user']}:{job['password']}@{job['host']}:{job['port']}"
    container = ServiceContainer(service, config={"AMQP_URI": url, "max_workers": workers})
    container.start()
    return container
