"""Locks of every kind, made when the program is imported, and held over a pause."""

import threading
import time

kinds = [threading.Lock(), threading.RLock(), threading.Condition(), threading.Semaphore()]


class Shop:
    lock = threading.Lock()


def work(n):
    for lock in (*kinds, Shop.lock):
        with lock:
            time.sleep(0.05)
    return n
