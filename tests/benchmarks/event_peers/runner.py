"""The process of one peer: publishes or consumes, and says what CPU that took.

    python runner.py MODULE FUNCTION JOB [--gevent | --eventlet]

MODULE is a file of this folder, FUNCTION one in it that is given the job (a JSON object). What it
returns is printed as one line of JSON; `say` prints more of them meanwhile. Standard library only,
and no syntax newer than Python 3.8: it runs in the peers' environments.
"""

import gc
import json
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


def measured(publish_for, job):
    """Publish for a while unmeasured, then measure.

    :param publish_for: publishes for so many seconds and returns how many events were confirmed.

    The garbage collector stays on: what a peer leaves behind is a part of what it costs.
    """
    publish_for(job["seconds"] / 4)
    gc.collect()
    started, cpu = time.monotonic(), time.process_time()
    count = publish_for(job["seconds"])
    cpu, seconds = time.process_time() - cpu, time.monotonic() - started
    if not count:
        raise Failed("nothing was confirmed")
    return {"cpu": cpu / count * 1e6, "rate": count / seconds}


def until(end, publish):
    """Publish one event after the other; how many."""
    count = 0
    while time.monotonic() < end:
        publish()
        count += 1
    return count


def by_greenlets(publish, job):
    """A `publish_for` for :func:`measured`: as many greenlets as asked for, each in a loop."""
    import gevent

    def publish_for(seconds):
        end = time.monotonic() + seconds
        running = [gevent.spawn(until, end, publish) for _ in range(job["greenlets"])]
        return sum(each.get() for each in running)

    return publish_for


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
    module, function, job = sys.argv[1:4]
    try:
        say(getattr(__import__(module), function)(json.loads(job)) or {})
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"[:300]})


if __name__ == "__main__":
    if "--gevent" in sys.argv:  # before anything else is imported
        from gevent import monkey

        monkey.patch_all()
    if "--eventlet" in sys.argv:
        import eventlet

        eventlet.monkey_patch()
    sys.modules["runner"] = sys.modules["__main__"]
    main()
