"""RabbitMQ: what users make, and one connection to it.

Reading order: `transport`, `link`, `opening`, `wire` (how bytes come and go), `queues`, `delays`,
`messages`, `publishing`, `known` (what finds a queue), `consuming`, `reading` (dead letters),
`notes` (of crashes), `faults`.
"""

from .transport import RabbitMqEventTransport

__all__ = ["RabbitMqEventTransport"]
