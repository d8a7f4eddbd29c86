"""The one setting that both services share: what carries their events."""

from __future__ import annotations

import os

from gemstone_sync import BaseEventTransport, transport_from_url

#: A file, which needs nothing installed; for RabbitMQ ``amqp://guest:guest@127.0.0.1:5672//``.
EVENTS_URL = os.environ.get("EVENTS_URL", "events.db")
#: Applications of different names may share a broker and hear nothing of each other.
APPLICATION = os.environ.get("EVENTS_APPLICATION", "greetings")


def make_transport() -> BaseEventTransport:
    return transport_from_url(EVENTS_URL, application=APPLICATION)
