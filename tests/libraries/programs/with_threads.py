"""Threads that do I/O, begun in a method."""

import threading
import time
from urllib.request import urlopen

from places import WEB


def work(n):
    found = []
    thread = threading.Thread(target=lambda: found.append(urlopen(f"{WEB}/{n}").read()))
    thread.start()
    thread.join()
    time.sleep(0)
    assert found == [b'{"n": %d}' % n]
    return n
