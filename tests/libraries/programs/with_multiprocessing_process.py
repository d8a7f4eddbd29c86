"""multiprocessing.Process with a queue in a method."""

import multiprocessing
import time


def slowly(queue, n):
    time.sleep(0.3)
    queue.put(n)


def work(n):
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=slowly, args=(queue, n))
    process.start()
    found = queue.get(timeout=10)
    process.join()
    return found
