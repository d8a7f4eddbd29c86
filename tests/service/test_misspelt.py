"""Attributes and methods that nearly are settings and hooks are told where the class is made."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import BasePlugin, Configurable, MicroService, Module


def made(base: type = MicroService, **members: Any) -> list[str]:
    """What is told of a class with these members, of which no code of its file reads any."""
    program = "class Shop(Base):\n    name = 'shop'\n    locals().update(members)"
    names = {"Base": base, "members": members, "__name__": "shop"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        exec(compile(program, "shop.py", "exec"), names)
    assert all(each.category is UserWarning and each.filename == "shop.py" for each in told)
    return [str(each.message) for each in told]


def function() -> Callable[..., Any]:
    def made_here(self: Any, *words: Any) -> None: ...

    return made_here


SETTINGS = {
    "allowed_origin": "allowed_origins",
    "max_paralel_blocking_tasks": "max_parallel_blocking_tasks",
    "template_dirs": "template_dir",
    "event_transport": "event_transports",
    "prot": "port",
    "hoost": "host",
    "defualt_timeout": "default_timeout",
    "allowedHosts": "allowed_hosts",
    "key_file": "keyfile",
    "trusted_proxy": "trusted_proxies",
    "service_registry_url": "service_registry_urls",
    "wrokers": "workers",
    "endpiont": "endpoint",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_misspelt_is_told(name):
    (text,) = made(**{name: []})
    assert text == f"Shop.{name} sets nothing; did you mean {SETTINGS[name]}?"


HOOKS = {
    "on_service_started": "on_service_start",
    "on_service_stopped": "on_service_stop",
    "before_method_calls": "before_method_call",
    "after_metod_call": "after_method_call",
    "on_failed_methd_call": "on_failed_method_call",
    "authenticate_requests": "authenticate_request",
    "api_token_valid": "api_token_is_valid",
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_is_misspelt_is_told(name):
    (text,) = made(**{name: function()})
    assert text == f"Shop.{name} is never called; did you mean {HOOKS[name]}?"


def test_so_is_one_of_a_plugin():
    expected = "Shop.on_metod_call is never called; did you mean on_method_call?"
    assert made(BasePlugin, **{"on_metod_call": function()}) == [expected]
    assert made(BasePlugin, port=1, **{"allowed_origin": []}) == []  # a plugin has no settings


OWN = "hostname ports hosts names templates template allowed_users module_name plugin_names timeout"
OWN += " max_retries max_items max_jobs max_pops database_url event_names endpoint_url debug_mode"
OWN += " extra_headers wait_seconds read_timeout connect_timeout token_is_valid ghost sport mean"
OWN += " accessible secrets statics registry_url environment service_name inbox default_language"


@pytest.mark.parametrize("name", OWN.split())
def test_a_name_that_only_resembles_one_is_the_users_own(name):
    assert made(**{name: []}) == []
    assert made(**{name: function()}) == []


def test_a_list_of_several_is_not_the_setting_of_one():
    assert made(**{"endpoints": ["a", "b"]}) == made(**{"worker": ["a"]}) == []
    assert len(made(**{"endpoints": "/api"})) == len(made(**{"plugin": []})) == 1


def test_what_any_code_reads_is_not_misspelt():
    class Mixin:
        def first(self) -> Any:
            return self.max_hop

    class Orders(Module):
        def count(self) -> Any:
            return [self.microservice.batch_modes for _ in "x"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Shop(Mixin, MicroService):
            name = "shop"
            max_hop = 3
            batch_modes = 7
            stop_timeouts = 8
            modules = [Orders()]
            wire_formats = "a"
            allowed_host = "b"
            configurables = [Configurable("default_timeouts")]
            default_timeouts = 1
            HOST = "c"

            def read(self) -> Any:
                return getattr(self, "stop_timeouts")  # noqa: B009

            @property
            def body_timeouts(self) -> str:
                return self.wire_formats

            @gemstone_sync.exposed_method()
            def on_service_starts(self) -> None: ...

            @gemstone_sync.periodic(5)
            def on_service_stops(self) -> None: ...

        class Sub(Shop):  # what a base has is not new
            max_hop = 4
            default_timeouts = 2

    assert Sub.allowed_host == "b"


def test_a_text_of_the_same_file_is_no_use():
    with pytest.warns(UserWarning, match="did you mean allowed_origins"):
        type("Shop", (MicroService,), {"name": "shop", "allowed_origin": []})


def test_it_is_told_where_the_class_stands(run_python):
    program = """
import gemstone_sync

class Base(gemstone_sync.MicroService):
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)

class Shop(Base):
    name = "shop"
    allowed_origin = ["https://app.example.org"]
"""
    done = run_python(program)
    assert done.returncode == 0
    assert "program.py:8: UserWarning: Shop.allowed_origin sets nothing; did you" in done.stderr
    assert done.stderr.count("UserWarning") == 1
