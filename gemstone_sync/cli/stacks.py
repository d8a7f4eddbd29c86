"""``gemstone stacks``: what the greenlets of a running service do and wait for."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..exit_codes import UNREACHABLE, USAGE, CommandFailed, printable
from .options import Access, access_options, utf8

__all__ = ["command"]


@click.command("stacks")
@click.argument("target", metavar="PID-OR-URL", type=utf8)
@access_options
def command(target: str, access: Access) -> None:
    """Show what the greenlets of a running service do and wait for, those in one place together.

    A process of this machine answers also while something holds it; that of several workers has all
    of them answer. At a URL one of the workers answers, on this machine or to --token.

    \b
    gemstone stacks 4711
    gemstone stacks http://localhost:8000/api
    """
    if target.isascii() and target.isdigit():
        texts = [*_of_process(int(target), access.timeout)]
        if not texts:
            raise CommandFailed(
                f"no gemstone_sync service runs as process {target}, or it is another user's",
                UNREACHABLE,
            )
    elif "/" in target or ":" in target:
        from .remote import client_of

        with client_of(target, access) as client:
            texts = [str(client.call_method("rpc.stacks").value())]
    else:
        raise CommandFailed(f"{target} is neither: give a process id or a URL", USAGE)
    click.echo(printable("\n".join(texts), keep="\n"), nl=False)


def _of_process(pid: int, timeout: float) -> Iterator[str]:
    """Yield the text of a process, or of its children: a parent of workers serves nothing."""
    if sys.platform != "linux":  # no abstract sockets
        os.kill(pid, signal.SIGUSR2)
        raise CommandFailed(f"process {pid} was sent SIGUSR2: look at its stderr")
    text = _ask(pid, timeout)
    if text is not None:
        yield text
        return
    for task in sorted(Path(f"/proc/{pid}/task").glob("*/children")):
        for child in task.read_text().split():
            yield from _of_process(int(child), timeout)


def _ask(pid: int, timeout: float) -> str | None:
    from ..concurrency.asked_for_stacks import address_of, peer_of

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(address_of(pid))
            if peer_of(client)[0] != pid:  # any user may have taken the address before
                return None
            return client.makefile("rb").read().decode() or None
        except TimeoutError:
            raise CommandFailed(f"process {pid} does not answer", UNREACHABLE) from None
        except OSError:
            return None
