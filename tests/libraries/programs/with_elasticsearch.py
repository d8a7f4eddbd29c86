"""elasticsearch, its client made when it is imported."""

import elasticsearch
from places import WEB

client = elasticsearch.Elasticsearch(WEB)


def work(n):
    return client.get(index="numbers", id=str(n))["_source"]["n"]
