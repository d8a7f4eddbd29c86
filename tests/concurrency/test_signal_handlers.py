"""Handlers of signals that wait."""

import pytest

from ..support.programs import program

BEGINNING = """
import faulthandler, os, queue, signal, subprocess, sys, threading, time
import requests
"""

SERVICE = """
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "handlers"
    host, port = "127.0.0.1", 0
    skip_configuration = True

    @gemstone_sync.exposed_method()
    def signalled(self):
        os.kill(os.getpid(), signal.SIGUSR1)  # heard in the middle of a call
        return 1

    def on_service_start(self):
        print("ready", flush=True)

    def on_service_stop(self):
        print("stop hook", flush=True)

service = Service()
"""

#: What a handler does, before it says that it is done.
WAITS = {
    "thread": "thread = threading.Thread(target=time.sleep, args=(0.05,)); thread.start()\n"
    "    thread.join(10)",
    "sleep": "time.sleep(0.05)",
    "queue": "q = queue.Queue(); threading.Timer(0.05, q.put, [1]).start(); q.get(timeout=10)",
    "event": "e = threading.Event(); threading.Timer(0.05, e.set).start(); assert e.wait(10)",
    "program": "subprocess.run(['true'], check=True)",
    "request": "requests.get(service.url.replace('/api', '/health/live'), timeout=10)",
    "call": "gemstone_sync.RemoteService(service.url).call_method('get_service_specs')",
}


@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
def test_a_handler_waits_while_the_service_is_idle(tmp_path, late):
    handlers = "".join(
        f"def wait_{name}(number, frame):\n    {code}\n    print('done', {name!r}, flush=True)\n"
        for name, code in WAITS.items()
    )
    chosen = f"""
CHOSEN = iter([{", ".join(f"wait_{name}" for name in WAITS)}])
def handle(number, frame):
    next(CHOSEN)(number, frame)
signal.signal(signal.SIGUSR1, handle)
"""
    source = BEGINNING + handlers + chosen + SERVICE
    source += "assert signal.getsignal(signal.SIGUSR1) is handle\nservice.start()\n"
    environment = {"GEMSTONE_MONKEY_PATCH": "late"} if late else {}
    with program(source, tmp_path, environment=environment) as service:
        service.wait_until(lambda: "ready" in service.stdout, "the service")
        for name in WAITS:
            service.send_signal(10)
            service.wait_until(lambda name=name: f"done {name}\n" in service.stdout, name)
        assert service.terminate() == 0
        assert service.stdout.endswith("stop hook\n")
        assert "Error" not in service.stderr


ENDINGS = {
    # What a handler raises is raised in the main greenlet.
    "its own exception": """
class Alarm(Exception):
    pass
def handle(number, frame):
    raise Alarm
signal.signal(signal.SIGALRM, handle)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(60)
except Alarm:
    time.sleep(0.001)
    print("fine")
""",
    "while it computes": """
def handle(number, frame):
    raise TimeoutError
signal.signal(signal.SIGALRM, handle)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while True:
        pass
except TimeoutError:
    print("fine")
""",
    "SystemExit": """
signal.signal(signal.SIGALRM, lambda *_: sys.exit(print("fine")))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(60)
""",
    "Ctrl-C": """
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(60)
except KeyboardInterrupt:
    print("fine")
""",
    "what was set": """
def handle(number, frame):
    assert number == signal.SIGUSR1 and frame is not None
    heard.append(number)
heard = []
assert signal.signal(signal.SIGUSR1, handle) == signal.SIG_DFL
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
os.kill(os.getpid(), signal.SIGUSR1)
assert os.read(reading, 1) == bytes([signal.SIGUSR1]) and heard == [signal.SIGUSR1]
assert signal.signal(signal.SIGUSR1, signal.SIG_IGN) is handle
assert signal.signal(signal.SIGUSR1, signal.SIG_DFL) == signal.SIG_IGN
print("fine")
""",
    # The thread that sends the signal is a greenlet.
    "waiting for any": """
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(0.001))
threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
signal.pause()
print("fine")
""",
    "waiting for one": """
one = {signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, one)
for wait in (
    lambda: signal.sigwait(one),
    lambda: signal.sigwaitinfo(one).si_signo,
    lambda: signal.sigtimedwait(one, 60).si_signo,
):
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    assert wait() == signal.SIGUSR1
assert signal.sigtimedwait(one, 0.01) is None
print("fine")
""",
}


@pytest.mark.parametrize("kind", ENDINGS)
def test_handlers_mean_what_they_meant(run_python, kind):
    ran = run_python("import gemstone_sync.patch\n" + BEGINNING + ENDINGS[kind])
    assert (ran.stdout, ran.stderr) == ("fine\n", "")


IN_CALLS = """
import gemstone_sync.patch
{beginning}
def handle(number, frame):
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # a handler may, wherever it is called
    raised.append(number)

raised = []
signal.signal(signal.SIGUSR1, handle)
{service}
    @gemstone_sync.exposed_method()
    def limited(self):
        signal.signal(signal.SIGALRM, handle)

service = Service()
service.start(block=False)
client = gemstone_sync.RemoteService(service.url)
print(client.call_method("signalled").result, raised == [signal.SIGUSR1])
print(client.call_method("limited").error.code, signal.getsignal(signal.SIGALRM) == signal.SIG_DFL)
service.stop()
"""


def test_a_call_sets_none_and_is_told_so_as_a_thread_is(run_python):
    """A time limit by SIGALRM would raise in the main greenlet, and end it."""
    service = SERVICE.replace("service = Service()\n", "")

    ran = run_python(IN_CALLS.format(beginning=BEGINNING, service=service))

    assert ran.stdout.splitlines()[1:3] == ["1 True", "-32603 True"], ran.stderr
    assert "ValueError: signal only works in main thread" in ran.stderr
