"""ThreadPoolExecutor, made when the program is imported."""

import time
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(2)


def slowly(n):
    time.sleep(0.3)
    return n


def work(n):
    return pool.submit(slowly, n).result()
