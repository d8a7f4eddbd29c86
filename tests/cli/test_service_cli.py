"""``MicroService.get_cli``: a service's own command, as its package installs it."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import gemstone_sync
from gemstone_sync import Configurable, EnvironmentConfigurator, MicroService
from tests.support.http import call, result_of
from tests.support.programs import Program

SHOP = '''
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    """Sells things."""

    name = "shop"
    #: What prices are in.
    currency: str = "EUR"
    configurables = [gemstone_sync.Configurable("currency")]

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def get_currency(self) -> str:
        return self.currency

cli = Shop.get_cli()

if __name__ == "__main__":
    cli(prog_name="shop")
'''


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def started(shop: Path, *words: str) -> Program:
    return Program([sys.executable, "shop.py", *words], shop)


@pytest.fixture
def ended(shop: Path) -> Iterator[object]:
    programs = []

    def run(*words: str) -> tuple[int, str, str]:
        program = started(shop, *words)
        programs.append(program)
        return program.wait(), program.stdout, program.stderr

    yield run
    for program in programs:
        program.kill()


@pytest.mark.parametrize(
    "words", [["--host=127.0.0.1", "--port=0"], ["--host", "127.0.0.1", "--port", "random"]]
)
def test_start_serves_with_the_options_given(words: list[str], shop: Path) -> None:
    program = started(shop, "start", *words, "--currency", "CHF")
    try:
        port = program.wait_until_ready()
        assert result_of(call(port, "get_currency")) == "CHF"
        assert program.terminate() == 0
    finally:
        program.kill()


def test_ctrl_c_ends_it_cleanly(shop: Path) -> None:
    program = started(shop, "start", "--port=0")
    try:
        program.wait_until_ready()
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert "Traceback" not in program.stderr
    finally:
        program.kill()


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["start", "--prot", "1"], 2, "shop.py: unknown option --prot; did you mean --port?"),
        (["start", "--port", "x"], 2, "shop: --port: must be a whole number or 'random', not 'x'"),
        (["start", "--port", "70000"], 2, "shop: --port: Shop.port must be a whole number"),
        (["start", "word"], 2, "shop.py: unexpected argument 'word'"),
        (["strat"], 2, "shop: No such command 'strat'"),
        (["start", "--certfile", "absent.pem", "--port=0"], 1, "absent.pem"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], code: int, line: str, ended) -> None:  # type: ignore[no-untyped-def]
    returned, out, err = ended(*words)

    assert (returned, out) == (code, "")
    assert line in err
    assert err.count("\n") == 1


def test_help_says_what_there_is(ended) -> None:  # type: ignore[no-untyped-def]
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
def test_a_shell_that_asks_gets_the_options_and_nothing_else(
    shop: Path, line: str, answer: str
) -> None:
    """By click's own script, for example ``eval "$(_SHOP_COMPLETE=bash_source shop)"``."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    program = Program(
        [sys.executable, "shop.py"],
        shop,
        environment={"_SHOP_COMPLETE": "bash_complete", **asked},
    )
    try:
        assert (program.wait(), program.stdout, program.stderr) == (0, answer, "")
    finally:
        program.kill()


def test_it_is_a_click_group_that_others_can_add_to() -> None:
    class Own(MicroService):
        name = "own"
        configurables = [Configurable("limit")]

    cli = Own.get_cli()
    assert isinstance(cli, click.Group)
    start = cli.commands["start"]
    names = {p.name for p in start.get_params(click.Context(start))}
    assert {"limit", "port", "host", "endpoint", "max_hops", "config"} <= names
    assert Own().get_cli().commands.keys() == cli.commands.keys()


def test_a_service_that_reads_no_command_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    class Silent(MicroService):
        name = "silent"
        configurators = [EnvironmentConfigurator()]

    with pytest.raises(SystemExit) as caught:
        Silent.get_cli()(["start", "--port", "1"], prog_name="silent")

    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "silent start: silent reads no command line: its configurators do not\n"
    )


def test_the_group_can_be_used_without_ending_the_process() -> None:
    class Own(MicroService):
        name = "own"

        def on_service_start(self) -> None:
            self.stop()

    assert Own.get_cli().main(["start", "--port", "0"], standalone_mode=False) is None
    assert gemstone_sync.MicroService.port == 8000
