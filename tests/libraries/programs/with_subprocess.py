"""subprocess in a method."""

import subprocess


def work(n):
    done = subprocess.run(["sh", "-c", f"sleep 0.3; echo {n}"], capture_output=True, check=True)
    return int(done.stdout)
