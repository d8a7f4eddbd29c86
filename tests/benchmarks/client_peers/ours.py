"""RemoteService of gemstone_sync with every default on."""

import gemstone_sync


def remote_service(url):
    client = gemstone_sync.RemoteService(url)
    return lambda a, b: client.methods.add(a=a, b=b)


def many(url, method="add"):
    """Make each call in a greenlet of its own."""
    import gevent

    call = getattr(gemstone_sync.RemoteService(url).methods, method)
    return lambda count: [g.get() for g in [gevent.spawn(call, a=1, b=2) for _ in range(count)]]


def naps(url):
    return many(url, "nap")


def many_async(url, method="add"):
    """Make each call with ``async_()``: greenlets in a patched process, threads in a plain one."""
    call = getattr(gemstone_sync.RemoteService(url).methods, method).async_
    return lambda count: [h.result(wait=True) for h in [call(a=1, b=2) for _ in range(count)]]


def naps_async(url):
    return many_async(url, "nap")
