"""RemoteService of gemstone 0.10.1; several calls at once go through its thread pool."""

import gemstone


def remote_service(url):
    client = gemstone.RemoteService(url)

    def add(a, b):
        return client.call_method("add", {"a": a, "b": b}).result

    return add


def many(url):
    return _in_its_thread_pool(url, "add")


def naps(url):
    return _in_its_thread_pool(url, "nap")


def _in_its_thread_pool(url, method):
    client = gemstone.RemoteService(url)

    def many_calls(count):
        handles = [client.call_method_async(method, {"a": 1, "b": 2}) for _ in range(count)]
        return [handle.result(wait=True).result for handle in handles]

    return many_calls
