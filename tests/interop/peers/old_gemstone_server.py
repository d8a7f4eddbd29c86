"""A service of gemstone 0.10.1, as its documentation writes one."""

import socket

import gemstone

NOTED = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer(gemstone.MicroService):
    name = "peer.old_gemstone"
    host = "127.0.0.1"
    port = free_port()
    endpoint = "/api"
    skip_configuration = True

    @gemstone.exposed_method()
    def subtract(self, minuend, subtrahend):
        """Return the difference."""
        return minuend - subtrahend

    @gemstone.exposed_method()
    def echo(self, value):
        return value

    @gemstone.exposed_method()
    def nothing(self):
        return None

    @gemstone.exposed_method()
    def note(self, word):
        NOTED.append(word)

    @gemstone.exposed_method()
    def noted(self):
        return NOTED

    @gemstone.exposed_method()
    def fail(self):
        raise ValueError("out of stock")

    @gemstone.exposed_method(private=True)
    def secret(self):
        return "the secret"

    def authenticate_request(self, handler):
        return handler.request.headers.get("X-Api-Token") == "right"


if __name__ == "__main__":
    print(f"http://127.0.0.1:{Peer.port}/api", flush=True)
    Peer().start()
