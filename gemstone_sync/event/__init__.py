"""Events: broadcast to every service that subscribes, or work for exactly one worker.

Reading order: `names`, `envelope` (what travels), `handlers` (what is promised to a handler),
`topology` (exchanges and queues), `link` (the contract with a broker), `signals`, `owner` (who owns
a connection), `publisher`, `consumer`, `processor` (what is done with one event), `transport` (what
users make), `links` and `virtual` (the brokers, through kombu), `deduplication`, `outbox`,
`deadletters`, `emitter`.
"""
