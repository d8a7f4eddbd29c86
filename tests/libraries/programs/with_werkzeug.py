"""werkzeug's context-local objects."""

import time

from werkzeug.local import Local, LocalProxy

local = Local()
proxy = LocalProxy(lambda: local.n)
unbound = LocalProxy(lambda: 1 / 0)


def work(n):
    local.n = n
    time.sleep(0.3)
    return int(proxy)
