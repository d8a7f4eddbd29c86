"""RemoteService of gemstone_sync with every default on."""

import gemstone_sync


def remote_service(url):
    client = gemstone_sync.RemoteService(url)

    def add(a, b):
        return client.methods.add(a=a, b=b)

    return add


def many(url):
    """As many greenlets as there are calls."""
    return _in_greenlets(gemstone_sync.RemoteService(url).methods.add)


def naps(url):
    return _in_greenlets(gemstone_sync.RemoteService(url).methods.nap)


def many_async(url):
    """As many handles of ``async_()``: greenlets in a patched process, threads in a plain one."""
    return _in_the_background(gemstone_sync.RemoteService(url).methods.add)


def naps_async(url):
    return _in_the_background(gemstone_sync.RemoteService(url).methods.nap)


def _in_greenlets(method):
    import gevent

    def many_calls(count):
        return [made.get() for made in [gevent.spawn(method, a=1, b=2) for _ in range(count)]]

    return many_calls


def _in_the_background(method):
    def many_calls(count):
        handles = [method.async_(a=1, b=2) for _ in range(count)]
        return [handle.result(wait=True) for handle in handles]

    return many_calls
