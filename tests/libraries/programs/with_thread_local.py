"""threading.local, made when the program is imported."""

import threading
import time

local = threading.local()


def work(n):
    local.n = n
    time.sleep(0.3)
    return local.n
