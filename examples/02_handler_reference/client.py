"""Calls the service as a browser would: a session keeps the cookies that the service sets."""

from __future__ import annotations

import sys
from typing import Any

import requests


def call(session: requests.Session, url: str, method: str, **params: str) -> Any:
    """Call a method; give its result, or the error's message."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    response = session.post(url, json=request, timeout=10).json()
    return response["error"]["message"] if "error" in response else response["result"]


def main(url: str) -> None:
    with requests.Session() as session:
        print("greet:       ", call(session, url, "greet", name="ada"))
        print("set_language:", call(session, url, "set_language", language="fr"))
        print("greet:       ", call(session, url, "greet", name="ada"))
        print("whoami:      ", call(session, url, "whoami"))
        print("login:       ", call(session, url, "login", user="ada", password="guess"))
        print("login:       ", call(session, url, "login", user="ada", password="engine no 1"))
        print("whoami:      ", call(session, url, "whoami"))
        print("logout:      ", call(session, url, "logout"))
        print("whoami:      ", call(session, url, "whoami"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000/api")
