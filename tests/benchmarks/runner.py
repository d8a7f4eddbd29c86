"""The process of one peer: it does what it is told, and says what that cost.

    python runner.py MODULE [--gevent | --eventlet]

MODULE is a file of the working directory. A job (one line of JSON on standard input) names one of
its functions, which is given the job; what it returns is printed as one line of JSON, and `say`
prints more of them meanwhile. Standard library only, and no syntax newer than Python 3.8: it runs
in the peers' environments.
"""

import gc
import json
import os
import sys
import time

#: 124 bytes of JSON.
BODY = {
    "order": 1234567,
    "customer": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "amount": "129.90",
    "currency": "EUR",
    "paid": True,
    "items": 3,
}


class Failed(Exception):
    """A peer did not do what it was asked to."""


def measured(work, warm, amount):
    """Work unmeasured, then measured: CPU µs for one (of all threads), and how many a second.

    :param work: does so much (calls, or seconds of publishing) and returns how many that were.

    The garbage collector stays on: what a peer leaves behind is a part of what it costs.
    """
    work(warm)
    gc.collect()
    started, cpu = time.monotonic(), time.process_time()
    count = work(amount)
    cpu, seconds = time.process_time() - cpu, time.monotonic() - started
    if not count:
        raise Failed("nothing was done")
    return {"cpu": cpu / count * 1e6, "rate": count / seconds}


def percentiles(laps):
    laps = sorted(laps)
    return {"p50": laps[len(laps) // 2], "p99": laps[int(len(laps) * 0.99)], "max": laps[-1]}


# Calls over HTTP: a function of client_peers/ is given a URL and returns what makes the calls

made = {}


def measure_calls(job):
    """Make calls one after another, or in rounds of ``together`` at once; each must answer 3."""
    name, together = job["client"], job["together"]
    if name not in made:
        made[name] = getattr(__import__(sys.argv[1]), name)(job["url"])
    call = made[name]

    def one_by_one(calls):
        for _ in range(calls):
            if call(1, 2) != 3:
                raise Failed("a call returned something else than 3")
        return calls

    def at_once(calls):
        for _ in range(calls // together):
            if call(together) != [3] * together:
                raise Failed("one of several calls returned something else than 3")
        return calls

    return measured(at_once if together else one_by_one, job["warm"], job["calls"])


# Events


def until(end, publish):
    """Publish one event after the other; how many."""
    count = 0
    while time.monotonic() < end:
        publish()
        count += 1
    return count


def measure_publishing(publish_for, job):
    """Measure a function that publishes for so many seconds, and returns how many arrived."""
    return measured(publish_for, job["seconds"] / 4, job["seconds"])


def measure_one_by_one(publish, job):
    return measure_publishing(lambda seconds: until(time.monotonic() + seconds, publish), job)


def measure_greenlets(publish, job):
    """Have as many greenlets as asked for publish, each in a loop."""
    import gevent

    def publish_for(seconds):
        end = time.monotonic() + seconds
        running = [gevent.spawn(until, end, publish) for _ in range(job["greenlets"])]
        return sum(each.get() for each in running)

    return measure_publishing(publish_for, job)


class Handled:
    """What a consumer calls for each message; true when it was the last.

    The clocks run from message number `skip` to number `count`: connecting and declaring are left
    out, and what has been read ahead of the first message is not.
    """

    def __init__(self, job):
        self._skip, self._last = job["skip"], job["count"]
        self.number = 0
        self._started = self._ended = (0.0, 0.0)

    def __call__(self, body):
        self.number += 1
        if body["order"] != BODY["order"]:
            raise Failed("a message has another body")
        if self.number == self._skip:
            gc.collect()
            self._started = time.monotonic(), time.process_time()
        elif self.number == self._last:
            self._ended = time.monotonic(), time.process_time()
        return self.number >= self._last

    def result(self):
        count = self._last - self._skip
        seconds, cpu = self._ended[0] - self._started[0], self._ended[1] - self._started[1]
        return {"cpu": cpu / count * 1e6, "rate": count / seconds}


def say(message):
    print(json.dumps(message), flush=True)


def main():
    sys.modules["runner"] = sys.modules["__main__"]
    sys.path[0] = os.getcwd()
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        name = job.pop("function")
        try:
            function = measure_calls if name == "calls" else getattr(__import__(sys.argv[1]), name)
            say(function(job) or {})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"[:300]})


if __name__ == "__main__":
    if "--gevent" in sys.argv:  # before anything else is imported
        from gevent import monkey

        monkey.patch_all()
    if "--eventlet" in sys.argv:
        import eventlet

        eventlet.monkey_patch()
    main()
