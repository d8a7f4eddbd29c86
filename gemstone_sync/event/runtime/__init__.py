"""What publishes and handles events, whatever the broker: one greenlet owns each connection.

Reading order: `connection_loop` (who owns a connection), `publishing` and `publisher`,
`queue_state`, `turns`, `prefetch` (who runs when), `redeliveries`, `isolation`, `doubts` (what
comes again), `outcomes` (what is left to publish), `workers` (greenlets), `consuming` and
`consumer`, `attempts`, `claims`, `current`, `processing` (what is done with one event).
"""
