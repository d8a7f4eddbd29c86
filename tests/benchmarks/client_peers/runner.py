"""The process of one client: makes the calls that it is told to, and says what CPU they took.

    python runner.py MODULE URL [--patched]

MODULE is a file of this folder. A job (one line of JSON on standard input) names one of its
functions, which is given the URL and returns another: `add(a, b)`, or for a job that wants several
calls at once, one that makes as many as it is told and returns their results. The answer is one
line of JSON on standard output. Standard library only, and no syntax newer than Python 3.8: it
runs in the peers' environments.
"""

import gc
import json
import sys
import time

if "--patched" in sys.argv:  # before anything else is imported
    from gevent import monkey

    monkey.patch_all()


class WrongResult(Exception):
    """A client returned something else than the sum."""


def one_by_one(add, calls):
    """Make the calls one after another."""
    for _ in range(calls):
        if add(1, 2) != 3:
            raise WrongResult("a call returned something else than 3")


def at_once(many, calls, together):
    """Make the calls in rounds of `together` at the same time."""
    right = [3] * together
    for _ in range(calls // together):
        if many(together) != right:
            raise WrongResult("one of several calls returned something else than 3")


def run(function, job):
    """Warm up, then measure: seconds, and CPU seconds of this process with all its threads.

    The garbage collector stays on: what a client leaves behind is a part of what it costs.
    """
    together = job["together"]
    for calls in (job["warm"], job["calls"]):
        gc.collect()
        started, cpu = time.monotonic(), time.process_time()
        if together:
            at_once(function, calls, together)
        else:
            one_by_one(function, calls)
        cpu, seconds = time.process_time() - cpu, time.monotonic() - started
    return {"cpu": cpu / job["calls"], "rate": job["calls"] / seconds}


def main():
    made = {}
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        name = job["function"]
        try:
            if name not in made:
                made[name] = getattr(__import__(sys.argv[1]), name)(sys.argv[2])
            answer = run(made[name], job)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
