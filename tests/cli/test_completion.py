"""Completion by the Tab key in the shells themselves, set up as the help of the command says."""

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.cli.terminal import TAB, Terminal
from tests.support.machine import absent

#: Each Tab starts a process or several.
SLOW = pytest.mark.slow

SHELLS = ("bash", "zsh", "fish")

CTRL_U = "\x15"

#: The file of a service, which would tell that it was imported.
FILES = {"service.py": "open('was_run', 'w').close()\n", "settings.toml": ""}

#: What a shell has in its own file, so that its prompt is known and it suggests nothing by itself.
PROMPTS = {
    "bash": "PS1='ready> '\n",
    "zsh": "PS1='ready> '\n",
    "fish": (
        "set -g fish_greeting\nset -g fish_autosuggestion_enabled 0\n"
        "function fish_prompt; echo -n 'ready> '; end\n"
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def setup():
    """The line for each shell, and the file that it goes into, by the help."""
    found = re.findall(r"^ *(\w+): +(.*?) +in ~/(\S+)$", run("completion", "--help").stdout, re.M)
    assert [shell for shell, *_ in found] == list(SHELLS)
    return {shell: (line, file) for shell, line, file in found}


def shell_with(name: str, lines: str, file: str, home: Path, cwd: Path) -> Terminal:
    """A shell for people, with lines in its file."""
    if shutil.which(name) is None:
        absent(f"{name} is not installed")
    path = home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PROMPTS[name] + lines)
    settings = {"HOME": str(home), "ZDOTDIR": str(home), "INPUTRC": "/dev/null"}
    settings |= {"XDG_CONFIG_HOME": str(home / ".config"), "XDG_DATA_HOME": str(home / "data")}
    return Terminal(name, "-i", cwd=cwd, columns=120, env=settings)


@pytest.fixture(scope="module", params=SHELLS)
def shell(request, setup, project, tmp_path_factory):
    name = request.param
    home = tmp_path_factory.mktemp("home")
    with shell_with(name, *setup[name], home, project) as terminal:
        terminal.expect("ready> ")
        yield terminal


def complete(terminal: Terminal, line: str, completed: str) -> None:
    """Type a line and press Tab; begin a new line once it is completed."""
    terminal.send(line + TAB)
    terminal.expect(re.escape(completed))
    give_up(terminal)


def give_up(terminal: Terminal) -> None:
    """Delete the line; wait until nothing more is written on account of it."""
    terminal.enter(f"{CTRL_U}echo given 'up'")
    terminal.expect("^given up")
    terminal.expect("ready> ")


LINES = {
    "gemstone regi": "gemstone registry ",
    "gemstone-sync regi": "gemstone-sync registry ",
    "gemstone bench --conc": "--concurrency ",
    "gemstone completion z": "zsh ",
    "gemstone run ser": "service.py ",
    "gemstone run ./ser": "./service.py ",
    "gemstone run service:Shop --periodic_s": "--periodic_scope ",
    "gemstone config service:Shop --periodic_s": "--periodic_scope ",
    "gemstone registry --max_ent": "--max_entries ",
    "gemstone run service:Shop --config sett": "--config settings.toml ",
    "gemstone run service:Shop --config=sett": "--config=settings.toml ",
}


@SLOW
@pytest.mark.parametrize(("line", "completed"), LINES.items())
def test_tab_completes(shell, project, line, completed):
    complete(shell, line, completed)

    assert not (project / "was_run").exists()


@SLOW
def test_tab_shows_what_there_is_and_no_error_on_a_wrong_line(shell):
    shell.send("gemstone call" + TAB + TAB)
    shell.expect("call_raw")
    give_up(shell)
    shell.send("gemstone nonsense --h" + TAB)
    give_up(shell)
    complete(shell, "gemstone regi", "gemstone registry ")

    for word in ("no such command", "Traceback", "Error", "not found"):
        assert word not in shell.text


@SLOW
@pytest.mark.parametrize("shell", ["zsh", "fish"], indirect=True)
def test_descriptions_are_whole(shell):
    shell.send("gemstone call" + TAB + TAB)
    shell.expect("Call METHOD of the service NAME, which a")
    give_up(shell)


COMPINIT = "autoload -Uz compinit; compinit -u"

#: It refuses ``-o nosort``; before 4.0 it has no compopt.
BASH_BEFORE_4_4 = """
complete() {
    case $* in *nosort*) echo 'nosort: invalid option name' >&2; return 2 ;; esac
    builtin complete "$@"
}
enable -n compopt
"""


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("bash", "", ""),
        pytest.param("bash", BASH_BEFORE_4_4, "", marks=SLOW),
        pytest.param("zsh", COMPINIT, "", marks=SLOW),
        pytest.param("zsh", "", COMPINIT, marks=SLOW),
    ],
    ids=["bash", "bash before 4.4", "zsh after its own", "zsh before its own"],
)
def test_a_shell_may_be_old_or_have_its_own(name, before, after, setup, project, tmp_path):
    line, file = setup[name]
    lines = "\n".join((before, line, after))
    with shell_with(name, lines, file, tmp_path, project) as terminal:
        terminal.expect("ready> ")
        complete(terminal, "gemstone regi", "gemstone registry ")
        if before == BASH_BEFORE_4_4:
            terminal.send("gemstone run service:Shop --config sett" + TAB)
            give_up(terminal)
            complete(terminal, "gemstone run service:Shop --periodic_s", "--periodic_scope ")

        for word in ("nosort", "compopt", "not found"):
            assert word not in terminal.text


# Without a shell


def test_an_option_is_there_once(project):
    done = run("completion", "bash", "--answer", "gemstone run service:Shop --", cwd=project)
    words = [line.partition("\t")[0] for line in done.stdout.splitlines()[1:]]

    assert {"--reload", "--help", "--port", "--no-debug", "--config"} <= set(words)
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_is_printed_where_its_shell_is_not_installed(name, tmp_path):
    """In the making of an image, for example."""
    script = run("completion", name).stdout
    done = run("completion", name, env={"PATH": str(tmp_path)})

    assert done == (0, script, "")
    assert "gemstone-sync" in script
