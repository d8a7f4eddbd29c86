"""pjrpc's client on requests, as its README shows it; it keeps a session."""

from pjrpc.client.backend import requests as backend


def proxy(url):
    client = backend.Client(url)

    def add(a, b):
        return client.proxy.add(a=a, b=b)

    return add
