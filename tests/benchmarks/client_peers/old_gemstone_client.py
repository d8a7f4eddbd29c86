"""RemoteService of gemstone 0.10.1; several calls at once go through its thread pool."""

import gemstone


def remote_service(url):
    client = gemstone.RemoteService(url)
    return lambda a, b: client.call_method("add", {"a": a, "b": b}).result


def many(url, method="add"):
    client = gemstone.RemoteService(url)

    def many_calls(count):
        handles = [client.call_method_async(method, {"a": 1, "b": 2}) for _ in range(count)]
        return [handle.result(wait=True).result for handle in handles]

    return many_calls


def naps(url):
    return many(url, "nap")
