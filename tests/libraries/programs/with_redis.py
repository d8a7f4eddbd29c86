"""redis, its client made when it is imported."""

import redis
from places import REDIS

client = redis.Redis.from_url(REDIS)


def work(n):
    client.blpop(["gemstone-sync-tests-nothing"], timeout=0.3)
    return int(client.echo(str(n)))
