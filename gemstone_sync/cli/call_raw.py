"""``gemstone call_raw``: one call of a method of the service at a URL."""

from __future__ import annotations

from typing import Any

import click

from .call import call_options, make_call
from .options import Access, utf8

__all__ = ["command"]


@click.command("call_raw")
@click.argument("url", type=utf8)
@call_options
def command(url: str, access: Access, **call: Any) -> None:
    """Call METHOD of the service at URL.

    \b
    PARAMS  name=world       a text
            times:=3         any JSON value: a number, true, null, '["a", "b"]'
            --args '[1, 2]'  by position

    \b
    gemstone call_raw http://localhost:8000/api say_hello name=world times:=3
    """
    from .remote import Clock

    make_call(url, Clock(access.timeout), access, **call)
