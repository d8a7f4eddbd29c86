"""Finding services by name: strategies behind one contract, and what the others share.

Reading order: `base` (the contract), `directory` (names -> URLs that expire, in memory), `static`,
`memory`, `http` (a registry), `redis_strategy`.
"""
