"""subprocess in the service's executor."""

import subprocess


def slowly(n):
    done = subprocess.run(["sh", "-c", f"sleep 0.3; echo {n}"], capture_output=True, check=True)
    return int(done.stdout)


def work(n, service):
    return service.get_executor().submit(slowly, n).result()
