"""Context variables: what is set in one call is not in another."""

import contextvars
import time

number = contextvars.ContextVar("number", default=0)


def work(n):
    number.set(n)
    time.sleep(0.3)
    return number.get()
