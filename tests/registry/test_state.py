"""The state file: a registry that is restarted, or killed, knows its services again."""

import contextlib
import logging
import resource
import signal
import sqlite3

import pytest

from gemstone_sync import RemoteService, ServiceStartError
from gemstone_sync.discovery.directory import Directory, Registration
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.registry.state import APPLICATION_ID, StateFile
from gemstone_sync.testing import running_service
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, gather, wait_until

A, B, C = "http://a:1/api", "http://b:2/api", "http://c:3/api"


def keeping(path, **attributes):
    """A registry that keeps its entries there."""
    return running_service(ServiceRegistry(), state=path, **attributes)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state.db"


def remote(program):
    return RemoteService(f"http://127.0.0.1:{program.port}/api", timeout=LIMIT, total_timeout=LIMIT)


def saved_in(path):
    """What stands in a file that no registry has open."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT * FROM entries"))


def change(path, *statements):
    """What another program does with the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_entries_survive_a_restart_and_have_their_whole_life_again(state, caplog):
    """However long the registry was away, and wherever the wall clock stands now."""
    with keeping(state) as registry:
        registry.ping("users", A, "one", 500)
        registry.ping("users", A, "two", 500)
        registry.ping("users", B)
        registry.ping("orders", C, "three")
        registry.ping("orders", "gone", 80)
        registry.goodbye("orders", "gone", 80)
    with caplog.at_level(logging.INFO), keeping(state) as registry:
        first, second = registry.directory.listing()["users"]

        assert (first.url, first.instances, second.url) == (A, 2, B)
        assert Registration("users", A, "one", 500) in registry.directory.registrations()
        assert first.silence < 500
        assert not first.late
        assert registry.goodbye("orders", C, "three") is True
        assert registry.locate_service("orders") == []
    assert "4 entries" in caplog.text


@pytest.mark.slow  # a process that is killed under load
def test_what_was_answered_is_kept_through_a_kill(start_program, state):
    program = start_program("--state", str(state))
    answered = set()
    with remote(program) as client:
        client.methods.ping("gone", A)
        client.methods.goodbye("gone", A)

        def ping(number):
            name = f"service.{number}"
            try:
                client.methods.ping(name, A)
            except Exception:
                assert len(answered) >= 100
            else:
                answered.add(name)
            if len(answered) == 100:
                program.send_signal(signal.SIGKILL)

        gather([lambda n=n: ping(n) for n in range(200)])
    program.wait()

    with keeping(state) as registry:
        assert registry.list_services().keys() >= answered
        assert registry.locate_service("gone") == []


def test_without_a_state_file_a_restart_forgets(run_registry):
    registry, client = run_registry(port=free_port())  # nobody is given it between the two
    client.methods.ping("users", A)
    registry.stop()
    registry.start(block=False)

    assert client.methods.locate_service("users") == []


def test_a_ping_that_changes_nothing_is_not_written(state):
    log = state.with_name("state.db-wal")
    with keeping(state) as registry:
        registry.ping("users", A, "one")
        before = log.stat().st_size
        for _ in range(50):
            registry.ping("users", A, "one")

        assert log.stat().st_size == before
        registry.ping("users", B, "two")
        assert log.stat().st_size > before


def test_what_expires_leaves_the_file(state):
    with keeping(state, ttl=1e-9) as registry:
        registry.ping("users", A)
        assert registry.locate_service("users") == []
        assert len(registry.directory) == 1
        registry.drop_expired()
        assert len(registry.directory) == 0

    assert saved_in(state) == []


def test_entries_that_may_not_be_registered_are_left_out(state, caplog):
    state.touch()  # an empty file is a new one
    with keeping(state) as registry:
        registry.ping("users", A)
    assert saved_in(state) == [("users", A, "", 30.0)]
    change(
        state,
        f"INSERT INTO entries VALUES ('users', 'javascript:alert(1)', '', 30), "
        f"('<b>', '{A}', '', 30), ('a', '{A}', '', -1)",
    )

    with caplog.at_level(logging.INFO), keeping(state) as registry:
        assert registry.locate_service("*") == [A]
    assert "3 entries in it cannot be used" in caplog.text


def truncate(path):
    with keeping(path) as registry:
        registry.ping("users", A)
    path.write_bytes(path.read_bytes()[:5000])


LATER = [f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 2"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            lambda path: path.write_text("no SQLite" * 99), "not an SQLite database", id="text"
        ),
        pytest.param(
            lambda path: change(path, "CREATE TABLE songs (title)"), "something else", id="other"
        ),
        pytest.param(lambda path: change(path, *LATER), "version 2", id="later"),
        pytest.param(truncate, "damaged|malformed", id="truncated"),
        pytest.param(lambda path: path.mkdir(), "is a folder", id="folder"),
    ],
)
def test_a_file_that_is_no_state_ends_the_start_and_stays_as_it_was(state, make, reason):
    make(state)
    before = state.read_bytes() if state.is_file() else None

    with pytest.raises(ServiceStartError, match=reason) as caught, keeping(state):
        pass

    assert str(state) in str(caught.value)
    assert before is None or state.read_bytes() == before


def test_a_file_of_another_registry_or_without_a_folder(state):
    for path, reason in (
        (state, "another process"),
        (state.parent / "absent" / "state", "no folder"),
        ("/proc/state", "No such file"),  # not even by root
    ):
        with keeping(state), pytest.raises(ServiceStartError, match=reason), keeping(path):
            pass


IN_A_HURRY = """
from gemstone_sync.registry import command, state

state.RETRY_SECONDS = 0.1
command.main()
"""


def test_a_disk_that_is_full_for_a_while(start_program, state):
    """The kernel's limit on file sizes stands for it: what is over it fails to be written."""
    program = start_program("--state", str(state), code=IN_A_HURRY)
    with remote(program) as client:
        client.methods.ping("before", A)
        size = state.with_name("state.db-wal").stat().st_size
        limits = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (size, -1))
        client.methods.ping("meanwhile", A)
        client.methods.ping("later", A)
        client.methods.goodbye("before", A)

        assert client.methods.list_services().keys() == {"meanwhile", "later"}
        assert program.stderr.count("cannot be written") == 1
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, limits)
        program.wait_until(lambda: "is written again" in program.stderr, "the next attempt")
        assert program.stderr.count("cannot be written") == 1
        client.methods.ping("after", A)
    program.send_signal(signal.SIGKILL)
    program.wait()

    assert [row[0] for row in saved_in(state)] == ["after", "later", "meanwhile"]


def test_a_disk_that_is_full_at_the_start(state):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ServiceStartError, match=r"state\.db cannot be used"), keeping(state):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state_file(path, everything=list):
    return StateFile(path, everything, logging.getLogger("test"))


def test_many_changes_at_once_share_their_writes(state):
    directory = Directory()
    file = state_file(state)
    assert file.open() == []
    directory.on_change = file.note

    def change(number):
        directory.add(f"n{number}", A)
        file.flush()
        if number % 2:
            directory.remove(f"n{number}", A)
            file.flush()

    gather([lambda n=n: change(n) for n in range(300)])
    file.close()

    assert {row[0] for row in saved_in(state)} == {f"n{n}" for n in range(0, 300, 2)}


def test_what_was_noted_last_is_written_at_the_end(state):
    file = state_file(state)
    file.open()
    file.note(Registration("users", A, None, 5.0), True)
    file.close()
    file.close()
    file.flush()

    assert saved_in(state) == [("users", A, "", 5.0)]


def test_a_file_that_breaks_is_written_anew(state, monkeypatch, caplog):
    monkeypatch.setattr("gemstone_sync.registry.state.RETRY_SECONDS", 0.05)
    directory = Directory()
    file = state_file(state, directory.registrations)
    file.open()
    directory.on_change = file.note
    directory.add("users", A)
    file.flush()
    file._file._connection.execute("DROP TABLE entries")  # as another program might
    directory.add("orders", B)
    file.flush()

    wait_until(lambda: "written again" in caplog.text, "the next attempt")
    file.close()

    assert [row[0] for row in saved_in(state)] == ["orders", "users"]


@pytest.mark.parametrize("how", ["removed", "replaced by another file"])
def test_a_file_that_is_gone_is_told_and_made_anew(how, state, caplog, monkeypatch):
    monkeypatch.setattr("gemstone_sync.registry.state.RETRY_SECONDS", 0.05)
    with keeping(state) as registry:
        registry.ping("users", A)
        state.unlink()
        if how != "removed":
            state.touch()
        wait_until(lambda: "is written again" in caplog.text, "the new file")
        assert f"the state file {state} is gone: it is made anew" in caplog.text
        registry.ping("orders", B)
    assert [row[:2] for row in saved_in(state)] == [("orders", B), ("users", A)]


def test_nobody_else_may_read_the_file(state):
    with keeping(state) as registry:
        registry.ping("users", A)
        modes = {path.name: path.stat().st_mode & 0o777 for path in state.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"state.db", "state.db-wal"} <= modes.keys()
    state.chmod(0o644)
    with keeping(state):
        assert state.stat().st_mode & 0o777 == 0o600
