"""Tools of services at URLs: which there are, while services come, go and change."""

from __future__ import annotations

import contextlib

import click
import pytest

from gemstone_sync import MicroService, ServiceRegistry, exposed_method
from gemstone_sync.cli.joined import Joined, at_url, of_registry
from gemstone_sync.cli.options import Access, Trust
from gemstone_sync.contract.model import Method
from gemstone_sync.dispatch import CallContext
from gemstone_sync.errors import GemstoneError, ServiceConfigurationError
from gemstone_sync.mcp.remote import RemoteBackend
from gemstone_sync.mcp.tools import Tool, Toolbox, tool_name
from gemstone_sync.protocol import JsonRpcRequest
from gemstone_sync.testing import running_service
from tests.support.machine import free_port
from tests.support.waiting import wait_until

ACCESS = Access(None, {}, 5.0, Trust(True, None))


class First(MicroService):
    name = "first"

    @exposed_method()
    def old(self) -> str:
        """Say it."""
        return "first"


class Second(MicroService):
    name = "second"
    version = "2"

    @exposed_method()
    def new(self) -> str:
        """Say it."""
        return "second"


def names(backend):
    return [tool.name for tool in backend.toolbox(now=True).all(private=False)]


def dead_url():
    return f"http://127.0.0.1:{free_port()}/api"


def test_services_that_register_and_leave_are_noticed_with_the_next_listing():
    with running_service(ServiceRegistry) as registry:
        urls = {"service_registry_urls": [registry.url]}
        with running_service(First, **urls):
            wait_until(lambda: registry.list_services("*"), "its registration")
            backend = RemoteBackend(of_registry(registry.url, "*", ACCESS), False, kept=0)
            assert names(backend) == ["first.old"]
            with running_service(Second, **urls):
                wait_until(lambda: "second.new" in names(backend), "the new service's tool")
                assert backend.about[2] == "The services first, second."
            wait_until(lambda: names(backend) == ["first.old"], "the end of its tool")
        wait_until(lambda: not registry.list_services("*"), "an empty registry")
        assert names(backend) == ["first.old"]  # all at once: rather the registry's fault


def test_one_that_gives_no_answer_is_left_out_and_one_that_gave_none_later_stays(capsys):
    with running_service(First) as first, running_service(Second) as second:
        places = {"dead": [dead_url()], "first": [first.url], "odd": ["http://[odd"]}
        backend = RemoteBackend(Joined(lambda: places, ACCESS), False, kept=0)
        assert names(backend) == ["first.old"]
        told = capsys.readouterr().err
        assert "dead is left out" in told
        assert "odd is left out" in told
        assert "Traceback" not in told
        places = {"first": [dead_url()], "second": [dead_url(), second.url]}
        assert names(backend) == ["first.old", "second.new"]
        assert "first is as it was" in capsys.readouterr().err


def test_where_none_answers_there_is_no_backend():
    with pytest.raises(GemstoneError, match="refused"):
        RemoteBackend(at_url(dead_url(), ACCESS), False)
    with pytest.raises(click.BadParameter, match="endpoint"):
        RemoteBackend(at_url("http://[odd", ACCESS), False)


def test_a_method_that_is_gone_has_the_next_listing_ask_again():
    port = free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(running_service(First, port=port))
        backend = RemoteBackend(at_url(first.url, ACCESS), False, kept=3600)
        stack.close()
        with running_service(Second, port=port):
            assert names(backend) == ["old"]
            response = backend.call(
                backend.toolbox().get("old"), JsonRpcRequest("old", {}, 1), CallContext()
            )
            assert "tools/list" in response.error.message
            assert names(backend) == ["new"]
            assert backend.about[:2] == ("second", "2")


def test_names_without_dots_are_for_agents_that_refuse_them():
    with running_service(First) as first:
        find = Joined(lambda: {"a.b": [first.url]}, ACCESS)
        backend = RemoteBackend(find, False, dots=False)
        assert names(backend) == ["a_b_old"]
        tool = backend.toolbox().get("a_b_old")
        assert backend.call(tool, JsonRpcRequest("old", {}, 1), CallContext()).result == "first"


def test_names_that_begin_to_clash_leave_the_tools_as_they_are(caplog):
    with running_service(First) as first, running_service(Second) as second:
        places = {"a.b": [first.url]}
        backend = RemoteBackend(Joined(lambda: places, ACCESS), False, kept=0)
        places = {"a.b": [first.url], "a+b": [first.url], "a:b": [second.url], "a b": [first.url]}
        assert names(backend) == ["a.b.old"]
        assert "would both be the tool" in caplog.text


def test_names_that_another_program_made_up_do_no_harm_to_a_terminal():
    tools = [Tool(tool_name(name), Method(name=name), {}) for name in ("a\x1bb", "a b")]
    with pytest.raises(ServiceConfigurationError, match="tool a_b") as told:
        Toolbox(tools)
    assert str(told.value).isprintable()
