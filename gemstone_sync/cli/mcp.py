"""``gemstone mcp``: a server on standard streams, for agents that start theirs by a command."""

from __future__ import annotations

import click

from .options import Access, access_options, source_argument, utf8

__all__ = ["command"]

#: Bytes of a message to services at URLs, which have limits of their own.
_LONGEST = 10_000_000


@click.command("mcp")
@source_argument
# No variable: one that is set for other commands must not change what SOURCE means.
@click.option(
    "--registry",
    metavar="URL",
    type=utf8,
    help="Join the services that this registry knows by the name SOURCE, or that it matches.",
)
@click.option(
    "--no-dots",
    is_flag=True,
    help="Write _ for the dots in names of tools: some agents refuse them.",
)
@access_options
def command(source: str, registry: str | None, no_dots: bool, access: Access) -> None:
    """Offer a service's methods as tools to an agent, over stdin and stdout.

    SOURCE is module:Class (or file.py:Class), whose service then runs in this process, without a
    port; or the URL of a running service, of its JSON-RPC endpoint or its /mcp. Agents have the
    command in their configuration:

    \b
    {"mcpServers": {"shop": {"command": "gemstone", "args": ["mcp", "shop.service:Shop"]}}}

    With --registry SOURCE is a service's name, or a pattern with * and ?; the tools of each service
    have its name before theirs: shop.orders.find.

    \b
    gemstone mcp http://localhost:8000/api
    gemstone mcp --registry http://localhost:8090/api 'shop*'

    Private methods are tools when --token or --header lets them be called; the token is sent as
    Authorization: Bearer, too. Services that begin, end or change are noticed with the next listing
    of tools, a minute later at most. The protocol has the Model Context Protocol's revisions
    2025-03-26 to 2026-07-28.
    """
    from ..concurrency import patch

    patch()
    access = _with_bearer(access, source)
    from ..mcp.stdio import take_streams

    source_fd, sink_fd = take_streams()  # first: a module may print while it is imported
    if registry is None and "://" not in source:
        _serve_class(source, source_fd, sink_fd, access, no_dots)
        return
    from ..dispatch import CallContext
    from ..mcp.face import Face
    from ..mcp.remote import RemoteBackend
    from ..mcp.stdio import serve
    from .joined import at_url, of_registry

    find = at_url(source, access) if registry is None else of_registry(registry, source, access)
    has_credentials = bool(
        access.token is not None or access.headers or access.trust.cert or "@" in source
    )
    backend = RemoteBackend(find, has_credentials, dots=not no_dots)
    serve(Face(backend), source_fd, sink_fd, longest=_LONGEST, make_context=CallContext)


def _with_bearer(access: Access, source: str) -> Access:
    """Send the token in the way that agents have, too."""
    names = {name.lower() for name in access.headers}
    if access.token is None or "authorization" in names or "@" in source:
        return access
    return access._replace(headers={**access.headers, "Authorization": f"Bearer {access.token}"})


def _serve_class(text: str, source_fd: int, sink_fd: int, access: Access, no_dots: bool) -> None:
    from werkzeug.test import create_environ

    from ..dispatch import CallContext
    from ..mcp.face import Face
    from ..mcp.local import LocalBackend
    from ..mcp.stdio import serve
    from ..ops import show_logs
    from ..service.microservice import documents_of, runner_of
    from .target import make, users_faults

    show_logs()
    service = make(text)
    headers = {**({"X-Api-Token": access.token} if access.token else {}), **access.headers}
    environ = create_environ(service.mcp_path or "/mcp", method="POST", headers=headers)
    with users_faults():
        if not service.skip_configuration:
            service.configure([])
        contract = documents_of(service).contract
        face = Face(LocalBackend(service.dispatcher, contract, service, dots=not no_dots))
        runner_of(service).start_work_only()
    try:
        serve(
            face,
            source_fd,
            sink_fd,
            longest=service.max_body_size,
            make_context=lambda: CallContext(dict(environ)),
        )
    finally:
        service.stop()
