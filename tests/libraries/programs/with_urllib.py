"""The standard library's urllib."""

import json
from urllib.request import urlopen

from places import WEB


def work(n):
    with urlopen(f"{WEB}/{n}", timeout=10) as reply:
        return json.load(reply)["n"]
