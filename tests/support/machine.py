"""What the machine offers: free ports, and what is not there."""

import os
import random
import socket
from typing import NoReturn

import pytest

#: Below those that the system gives to whoever asks for any (Linux: 32768 and up), so that nobody
#: but a test that asks for just this one takes it before it is used.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """A port on which nobody listens."""
    while True:
        port = random.choice(_PORTS)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


def absent(reason: str) -> NoReturn:
    """Skip the test; where everything must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
