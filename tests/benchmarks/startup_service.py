"""Make a service of 100 methods with four parameters each; print what that took. See startup.py.

    python tests/benchmarks/startup_service.py [plain|text]

It prints milliseconds of CPU for the class and for the application, and MB that the process has.
"""

from __future__ import annotations

import gc
import sys
import time

from gemstone_sync import MicroService, exposed_method

METHOD = '''
    @exposed_method("method.number{0}")
    def method_{0}(self, a: int, b: str, c: float = 1.0, d: list[int] | None = None) -> int:
        """Return the first; not the others."""
        return a
'''
TEXT = "from __future__ import annotations\n"


def main() -> None:
    """Make it twenty times: the least counts."""
    methods = "".join(METHOD.format(number) for number in range(100))
    head = TEXT if sys.argv[1:] == ["text"] else ""
    source = f"{head}class Shop(MicroService):\n    name = 'shop'\n    port = 0\n{methods}"
    code = compile(source, "shop.py", "exec", dont_inherit=True)
    names = {"MicroService": MicroService, "exposed_method": exposed_method, "__name__": "shop"}
    found = []
    for _ in range(20):
        gc.collect()
        begin = time.thread_time()
        exec(code, names)
        made = time.thread_time()
        service = names["Shop"]()
        ready = time.thread_time()
        _ = service.app
        found.append(((made - begin) * 1000, (time.thread_time() - ready) * 1000))
    with open("/proc/self/status", encoding="utf-8") as status:
        rss = next(line for line in status if line.startswith("VmRSS")).split()[1]
    print(*map(min, zip(*found, strict=True)), int(rss) / 1000)


if __name__ == "__main__":
    main()
