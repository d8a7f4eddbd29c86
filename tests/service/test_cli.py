"""``MicroService.get_cli``: a service's own command, as its package installs it."""

import signal
import sys

import click
import pytest

import gemstone_sync
from gemstone_sync import Configurable, EnvironmentConfigurator, MicroService
from tests.cli.support import Done
from tests.support.http import call, result_of
from tests.support.programs import program


class Shop(MicroService):
    """Sells things."""

    name = "shop"
    #: What prices are in.
    currency: str = "EUR"
    configurables = [Configurable("currency")]


@pytest.fixture
def ended(monkeypatch, capsys):
    """``ended("start", "--port", "1")``: how the command of the shop ended, in this process."""
    monkeypatch.setattr(sys, "argv", ["shop.py"])

    def run(*words: str, cls: type[MicroService] = Shop) -> Done:
        with pytest.raises(SystemExit) as caught:
            cls.get_cli()(words, prog_name=cls.name)
        return Done(int(caught.value.code or 0), *capsys.readouterr())

    return run


PROGRAM = """
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"
    currency: str = "EUR"
    configurables = [gemstone_sync.Configurable("currency")]

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def get_currency(self) -> str:
        return self.currency

if __name__ == "__main__":
    Shop.get_cli()(prog_name="shop")
"""


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["--host=127.0.0.1", "--port=0"], signal.SIGTERM),
        (["--host", "127.0.0.1", "--port", "random"], signal.SIGINT),
    ],
)
def test_start_serves_with_the_options_given_until_a_signal(words, number, tmp_path):
    with program(PROGRAM, tmp_path, "start", *words, "--currency", "CHF") as started:
        port = started.wait_until_ready()
        assert result_of(call(port, "get_currency")) == "CHF"
        started.send_signal(number)
        assert started.wait() == 0
        assert "Traceback" not in started.stderr


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ("start --prot 1", 2, "shop.py: unknown option --prot; did you mean --port?"),
        ("start --port x", 2, "shop: --port: must be a whole number or 'random', not 'x'"),
        ("start --port 70000", 2, "shop: --port: Shop.port must be a whole number"),
        ("start word", 2, "shop.py: unexpected argument 'word'"),
        ("strat", 2, "shop: No such command 'strat'"),
        ("start --certfile absent.pem --port=0", 1, "absent.pem"),
    ],
)
def test_what_is_wrong_is_one_line(words, code, line, ended):
    done = ended(*words.split())

    assert (done.code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert line in done.stderr


def test_help_says_what_there_is(ended):
    for words in ([], ["--help"]):
        code, out, _ = ended(*words)
        assert code == 0
        assert "Sells things." in out
        assert "start" in out
    code, out, _ = ended("start", "--help")
    text = " ".join(out.split())
    assert code == 0
    assert "--currency TEXT What prices are in. [env var: GEMSTONE_CURRENCY] (default: EUR)" in text
    for name in ("--port", "--host", "--workers", "--max_hops", "--debug / --no-debug", "--config"):
        assert name in text


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("shop sta", "plain,start\n"),
        ("shop start --cur", "plain,--currency\n"),
        ("shop start --port 1 --cur", "plain,--currency\n"),
        ("shop start --help --cur", "plain,--currency\n"),
        ("shop start --config sh", "file,sh\n"),
    ],
)
def test_a_shell_that_asks_gets_the_options_and_nothing_else(line, answer, ended, monkeypatch):
    """By click's own script, for example ``eval "$(_SHOP_COMPLETE=bash_source shop)"``."""
    monkeypatch.setenv("_SHOP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))

    assert ended() == (0, answer, "")


def test_it_is_a_click_group_that_others_can_add_to():
    cli = Shop.get_cli()
    assert isinstance(cli, click.Group)
    start = cli.commands["start"]
    names = {p.name for p in start.get_params(click.Context(start))}
    assert {"currency", "port", "host", "endpoint", "max_hops", "config"} <= names
    assert Shop().get_cli().commands.keys() == cli.commands.keys()


def test_a_service_that_reads_no_command_line_says_so(ended):
    class Silent(MicroService):
        name = "silent"
        configurators = [EnvironmentConfigurator()]

    line = "silent start: silent reads no command line: its configurators do not\n"
    assert ended("start", "--port", "1", cls=Silent) == (2, "", line)


def test_the_group_can_be_used_without_ending_the_process():
    class Own(MicroService):
        name = "own"

        def on_service_start(self) -> None:
            self.stop()

    assert Own.get_cli().main(["start", "--port", "0"], standalone_mode=False) is None
    assert gemstone_sync.MicroService.port == 8000
