"""Every public plain attribute of MicroService is a setting, or says why only code may set it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import MemoryEventTransport, MicroService
from gemstone_sync.config.declaration import declarations_of

#: What only code may set, and why.
IN_CODE = {name: one.in_code for name, one in declarations_of(MicroService).items() if one.in_code}
#: Settings that are texts, and whole numbers.
TEXTS = """host=0.0.0.0 endpoint=/rpc accessible_at=http://h:1/api secret_key=xy batch_mode=serial
certfile=c.pem keyfile=k.pem wire_format=gemstone template_dir=html health_live_path=/up
service_registry_cert=d.pem
log_format=json log_level=warning
periodic_scope=worker service_registry_token=t event_deduplication=d.db outbox=o.db"""
NUMBERS = """max_parallel_blocking_tasks=7 max_waiting_calls=0 max_batch_size=3 max_body_size=0
max_response_size=9 max_hops=2 max_connections=5 stop_timeout=0 drain_delay=2 drain_grace=2
workers=2 max_threads=3 max_processes=2
discovery_cache_seconds=3 event_timeout=4 max_event_size=5"""

#: What each is set to, as a text; and what that is.
VALUES: dict[str, tuple[str, Any]] = {
    **{name: (text, text) for name, text in (pair.split("=") for pair in TEXTS.split())},
    **{name: (text, int(text)) for name, text in (pair.split("=") for pair in NUMBERS.split())},
    "port": ("random", 0),
    "allowed_hosts": ("a.b, *.c", ["a.b", "*.c"]),
    "allowed_origins": ("https://a.b", ["https://a.b"]),
    "max_wait_seconds": ("1.5s", 1.5),
    "default_timeout": ("none", None),
    "blocked_after": ("2s", 2),
    "slow_call_seconds": ("100ms", 0.1),
    "health_startup_path": ("none", None),
    "header_timeout": ("500ms", 0.5),
    "keep_alive_timeout": ("2m", 120),
    "body_timeout": ("1h", 3600),
    "trusted_proxies": ("10.0.0.0/8,::1", ["10.0.0.0/8", "::1"]),
    "access_log": ("yes", True),
    "debug": ("true", True),
    "health_ready_path": ("none", None),
    "hide_private": ("on", True),
    "strict_types": ("off", False),
    "use_statistics": ("on", True),
    "explorer": ("private", "private"),
    "explorer_may_emit": ("on", True),
    "mcp": ("on", True),
    "mcp_path": ("/tools", "/tools"),
    "mcp_methods": ("a,b", ["a", "b"]),
    "metrics": ("on", True),
    "metrics_path": ("/prom", "/prom"),
    "status_page": ("on", True),
    "status_path": ("/how", "/how"),
    "validate_results": ("on", True),
    "service_registry_urls": ("http://a/api,http://b/api", ["http://a/api", "http://b/api"]),
    "service_registry_ping_interval": ("1m", 60),
    "service_registry_verify": ("ca.pem", "ca.pem"),
    "event_transports": ("memory://", [MemoryEventTransport]),
    "outbox_databases": ("a.db,b.db", ["a.db", "b.db"]),
}


def test_every_attribute_is_walked():
    """What a user sees by dir(): no methods, no properties."""
    attributes = {
        name
        for name in dir(MicroService)
        if not name.startswith("_")
        and not callable(getattr(MicroService, name))
        and not isinstance(getattr(MicroService, name), property)
    }

    assert attributes == set(declarations_of(MicroService)) == set(VALUES) | set(IN_CODE)
    assert not set(VALUES) & set(IN_CODE)


class Plain(MicroService):
    name = "plain"


def give(source: str, name: str, text: str, patch: pytest.MonkeyPatch) -> list[str]:
    if source == "environment":
        patch.setenv(f"GEMSTONE_{name.upper()}", text)
    elif source == "file":
        Path("plain.toml").write_text(f"{name} = {json.dumps(text)}\n")
    elif source == "command line":
        return [f"--{name.replace('_', '-')}", text]
    return []


@pytest.mark.parametrize("source", ["command line", "environment", "file"])
@pytest.mark.parametrize("name", VALUES)
def test_each_is_set_with_its_own_type(name, source, monkeypatch):
    text, wanted = VALUES[name]
    service = Plain()
    service.configure(give(source, name, text, monkeypatch))

    value = getattr(service, name)
    if name == "event_transports":
        value = [type(transport) for transport in value]
    assert value == wanted
    if not isinstance(wanted, float):
        assert type(value) is type(wanted)
    assert getattr(Plain, name) == getattr(MicroService, name) != value


@pytest.mark.parametrize("name", sorted(IN_CODE))
def test_what_is_no_setting_is_refused(name, refusal):
    assert "unknown option" in refusal(Plain(), f"--{name}", "x")


@pytest.mark.parametrize("text", ["true", "80.5", "inf", '"8_000"'])
def test_a_port_is_a_whole_number(text, refusal):
    Path("plain.toml").write_text(f"port = {text}\n")

    line = "plain: plain.toml: port: must be a whole number or 'random', not "
    assert refusal(Plain()).startswith(line)


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        Plain().configure(["--help"])

    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in VALUES:
        assert f"--{name}" in text
        assert f"[env var: GEMSTONE_{name.upper()}]" in text
    assert "--debug, --no-debug" in text
    assert "(default: 127.0.0.1)" in text
    assert "How many requests a batch may hold." in text
