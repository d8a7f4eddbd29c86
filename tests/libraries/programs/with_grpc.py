"""grpc, a channel made when it is imported: a call, a stream, and a future."""

import grpc
from places import PEERS

channel = grpc.insecure_channel(f"127.0.0.1:{PEERS.get('grpc')}")
slow = channel.unary_unary("/numbers.Numbers/Slow")
several = channel.unary_stream("/numbers.Numbers/Several")


def work(n):
    sent = str(n).encode()
    replies = [slow(sent, timeout=10), *several(sent, timeout=10)]
    replies.append(slow.future(sent, timeout=10).result())
    (reply,) = set(replies)
    return int(reply)
