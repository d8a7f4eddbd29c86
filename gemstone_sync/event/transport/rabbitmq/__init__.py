"""RabbitMQ: what users make, and one connection to it.

Reading order: `transport` (options and URLs), `link` (one connection, its life and questions),
`wire` (how bytes come and go), `queues` (what is declared), `publishing`, `consuming`, `reading`
(through dead letters), `faults` (what errors mean).
"""

from .transport import RabbitMqEventTransport

__all__ = ["RabbitMqEventTransport"]
