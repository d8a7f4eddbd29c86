"""``gemstone new``: what it does with a command line, on a terminal, with what is there."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cli.projects import ODD_TEXT, check_name, metadata_of
from tests.cli.support import GEMSTONE, line_of, run, run_process, run_program
from tests.cli.terminal import CTRL_C, Terminal
from tests.support.machine import absent
from tests.support.programs import REPOSITORY
from tests.support.waiting import wait_until

# What it makes


def test_its_commands_are_shown(home, work):
    done = run_process("new", "shop", cwd=work, env=home)
    assert (done.code, done.stderr) == (0, "")
    made, *commands = done.stdout.splitlines()
    # The checkout, or the archive that tox installs.
    source = rf"{re.escape(REPOSITORY.as_uri())}(/\S+\.tar\.gz)?"
    line = rf"Made ./shop. It needs gemstone_sync from {source}, as its pyproject.toml says. Next:"
    assert re.fullmatch(line, made)
    assert commands == [
        "  python -m pip install -e './shop[test]'",
        "  python -m pytest ./shop",
        "  shop start --host=127.0.0.1 --port=8000",
    ]
    assert os.listdir(work) == ["shop"]
    assert os.listdir(home["HOME"]) == []


def test_it_is_made_in_another_directory(work):
    done = run("new", "shop", "--output", "a b/c", cwd=work)
    assert (done.code, done.stderr) == (0, "")
    assert "  python -m pip install -e './a b/c/shop[test]'" in done.stdout.splitlines()
    assert (work / "a b" / "c" / "shop" / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("name", "package", "class_name"),
    [
        ("myservice", "myservice", "MyService"),
        ("Shop-Stock_2", "shop_stock_2", "ShopStock2Service"),
        ("user-service", "user_service", "UserService"),
        ("service", "service", "Service"),
    ],
)
def test_the_names_that_follow_from_its_name(work, name, package, class_name):
    assert run("new", name, cwd=work).code == 0
    made = work / name
    scripts = metadata_of(made)["scripts"]
    assert scripts == {name: f"{package}.service:cli"}
    service = (made / package / "service.py").read_text("utf-8")
    assert f"\nclass {class_name}(gemstone_sync.MicroService):\n" in service
    assert f'    name = "{name}"\n' in service
    assert (made / "deploy" / f"{name}@.service").is_file()
    assert (made / f"{name}.toml").is_file()
    manifest = (made / "deploy" / "kubernetes.yaml").read_text("utf-8")
    deployment, service_object = yaml.safe_load_all(manifest)
    for thing in (deployment, service_object):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", thing["metadata"]["name"])


def test_any_text_is_fine_for_author_and_description(work):
    words = ["--author", ODD_TEXT, "--description", ODD_TEXT[::-1], "--version", "2.0rc1"]
    done = run("new", "myservice", *words, cwd=work)
    assert (done.code, done.stderr) == (0, "")
    found = metadata_of(work / "myservice")
    assert found["authors"] == [{"name": ODD_TEXT}]
    assert found["description"] == ODD_TEXT[::-1]
    assert found["version"] == "2.0rc1"
    assert ODD_TEXT[::-1] in (work / "myservice" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("description", ["None", ""])
def test_no_description_is_told_by_none_as_in_the_document(work, description):
    assert run("new", "shop", "--description", description, cwd=work).code == 0
    assert metadata_of(work / "shop")["description"] == "A JSON-RPC 2.0 microservice"


def test_the_users_settings_of_cookiecutter_do_not_count(home, work):
    settings = Path(home["HOME"], ".cookiecutterrc")
    settings.write_text("default_context: {author: Somebody, version: '9', name: other}\n")
    named = {"COOKIECUTTER_CONFIG": str(settings)}
    for name, variables in (("shop", home), ("stock", {**home, **named})):
        assert run("new", name, cwd=work, env=variables).code == 0
        found = metadata_of(work / name)
        assert (found["authors"], found["version"]) == ([{"name": "Me"}], "1.0")
    assert os.listdir(home["HOME"]) == [".cookiecutterrc"]


# What it refuses


NO_NAMES = ["1abc", "../x", "a/b", "", ".", "-", "a b", "a--b", "naïve", "x\n", "{{ 1 }}", "\udcff"]

#: Names of what they would take the place of.
TAKEN = ["json", "Flask", "gemstone-sync", "tests", "Test", "PyYAML", "activate"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        *(([name], repr(name)) for name in NO_NAMES),
        *(([name], f"another {name.lower().replace('-', '_')}") for name in TAKEN),
        (["class"], "Python's own"),
        (["jobs"], "the shell's own"),
        (["a" * 64], "63"),
        (["shop", "--version", "one"], "--version: 'one'"),
        (["shop", "--version", "1.0+local"], "--version"),
        (["shop", "--version", ""], "--version"),
        (["shop", "--author", ""], "--author: the author must not be empty"),
        (["shop", "--author", "a\nb"], "--author: the author must be one line"),
        (["shop", "--description", "a\x1b[0m"], "--description: the description must be one line"),
        (["shop", "--nmae", "x"], "--nmae"),
        ([], "NAME is missing"),
        (["--yes"], "NAME is missing"),
    ],
    ids=ascii,
)
def test_a_wrong_answer_is_one_line(work, words, named):
    assert named in line_of(run("new", *words, cwd=work), 2)
    assert os.listdir(work) == []


def test_what_exists_is_left_as_it_is(work):
    (work / "folder").mkdir()
    (work / "file").write_text("mine")
    (work / "link").symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        assert f"{name} exists already" in line_of(run("new", name, cwd=work), 2)
    assert sorted(os.listdir(work)) == ["file", "folder", "link"]
    assert os.listdir(work / "folder") == []
    assert (work / "file").read_text() == "mine"


@pytest.mark.parametrize("output", ["file", "file/below", "/proc/below"])
def test_a_directory_that_cannot_be_written_is_one_line(work, output):
    (work / "file").touch()
    assert output in line_of(run("new", "shop", "--output", output, cwd=work), 2)
    assert os.listdir(work) == ["file"]


def test_each_word_of_the_shell_is_refused(work):
    listing = subprocess.run(["bash", "-c", "compgen -bk"], capture_output=True, text=True)
    words = {word for word in listing.stdout.split() if word.isalpha()}
    assert {"jobs", "select"} < words
    for word in words:
        with pytest.raises(ValueError, match="is no name for a service"):
            check_name(word)


@pytest.mark.parametrize("room", [3, 6])
def test_a_full_disk_is_one_line_with_the_reason(work, room):
    mount = f'mount -t tmpfs -o nr_inodes={room} tmpfs "$0" && exec "$1" new shop --output "$0"'
    done = run_program("unshare", "--map-root-user", "--mount", "sh", "-c", mount, work, GEMSTONE)
    if done.stderr.startswith("unshare:"):
        absent(done.stderr)
    line = line_of(done, 2)
    assert line.endswith("shop: No space left on device; choose another --output")


# On a terminal


def test_it_asks_for_what_is_not_given(home, work):
    with Terminal(GEMSTONE, "new", "--author", "Ada", cwd=work, env=home) as terminal:
        for question, answer in [
            (r"Name \[myservice\]: ", "class"),
            (r"Error: .*Python's own[^[]*Name \[myservice\]: ", "shop"),
            (r"Version \[1\.0\]: ", "one"),
            (r"Error: 'one'[^[]*Version \[1\.0\]: ", "1.2"),
            (r"Short description \[None\]: ", ""),
        ]:
            terminal.expect(question)
            terminal.enter(answer)
        terminal.expect("shop start")
        assert terminal.wait() == 0
    found = metadata_of(work / "shop")
    assert (found["authors"], found["version"]) == ([{"name": "Ada"}], "1.2")


def test_it_asks_nothing_when_told_so(home, work):
    with Terminal(GEMSTONE, "new", "shop", "--no-input", cwd=work, env=home) as terminal:
        assert terminal.wait() == 0
        assert "[" not in terminal.text.replace("shop[test]", "")
    assert metadata_of(work / "shop")["version"] == "1.0"


def test_ctrl_c_at_a_question_makes_nothing(home, work):
    with Terminal(GEMSTONE, "new", "shop", cwd=work, env=home) as terminal:
        terminal.expect(r"Author \[Me\]: ")
        # Before readline waits, it takes no notice of the signal.
        stat = Path(f"/proc/{terminal.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", "that it reads")
        terminal.send(CTRL_C)
        assert terminal.wait() == 130
    assert os.listdir(work) == []


def test_an_existing_directory_is_told_before_the_other_questions(home, work):
    (work / "shop").mkdir()
    with Terminal(GEMSTONE, "new", "shop", cwd=work, env=home) as terminal:
        terminal.expect("gemstone new: shop exists already")
        assert terminal.wait() == 2
