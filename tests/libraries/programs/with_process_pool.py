"""ProcessPoolExecutor in a method."""

import time
from concurrent.futures import ProcessPoolExecutor


def slowly(n):
    time.sleep(0.3)
    return n


def work(n):
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(slowly, n).result()
