"""pymongo, its client made when it is imported."""

import pymongo
from places import PEERS

client = pymongo.MongoClient("127.0.0.1", PEERS.get("mongo"))


def work(n):
    return client.test.numbers.find_one({"n": n})["n"]
