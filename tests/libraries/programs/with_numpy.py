"""numpy, which computes and waits for nothing."""

import time

import numpy

numbers = numpy.arange(1000.0)


def work(n):
    product = (numbers * n).sum()
    time.sleep(0.3)
    return int(product // numbers.sum())
