"""multiprocessing.Pool in a method."""

import multiprocessing
import time


def slowly(n):
    time.sleep(0.3)
    return n


def work(n):
    with multiprocessing.Pool(1) as pool:
        return pool.apply(slowly, (n,))
