"""The event runtime: publishes and handles events over any broker, a greenlet per connection.

Reading order: `connection_loop` (that greenlet, and connecting again), `publisher` and
`publisher_loop` (the window of confirms), `queue_state` (what is ready, running or waiting, and
what starts next), `redeliveries` and `isolation` (what comes again, and what may kill its process),
`outcomes` (retries and dead letters on their way), `workers` (greenlets), `consumer_loop` and
`consumer`, `attempts` (one call of a handler), `claims` (once only), `processing` (what becomes of
an event).
"""
