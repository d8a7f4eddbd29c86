"""The state file: a registry that is restarted, or killed, knows its services again."""

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
from tests.support.waiting import gather, wait_until

A, B, C = "http://a:1/api", "http://b:2/api", "http://c:3/api"


def remote(program):
    return RemoteService(f"http://127.0.0.1:{program.port}/api")


def saved_in(path):
    """What stands in a file that no registry has open."""
    connection = sqlite3.connect(path)
    try:
        return sorted(connection.execute("SELECT * FROM entries"))
    finally:
        connection.close()


# Restarts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_entries_survive_the_end_of_the_process(start_program, number):
    """Also kill -9, right after the last answer."""
    first = start_program("--state", "state.db")
    with remote(first) as client:
        client.methods.ping("users", A, "one", 5)
        client.methods.ping("users", A, "two", 5)
        client.methods.ping("users", B)
        client.methods.ping("orders", C, "three")
        client.methods.ping("orders", "gone", 80)
        client.methods.goodbye("orders", "gone", 80)
        first.send_signal(number)
    first.wait()

    second = start_program("--state", "state.db")
    with remote(second) as client:
        assert client.methods.locate_service("users") == [A, B]
        assert client.methods.locate_service("orders") == [C]
        assert client.methods.list_services()["users"][0]["instances"] == 2
        assert client.methods.goodbye("orders", C, "three") is True
    assert "4 entries" in second.stderr


def test_pings_that_were_answered_are_kept_through_a_kill(start_program):
    first = start_program("--state", "state.db")
    answered = []
    with remote(first) as client:

        def ping(number):
            name = f"service.{number}"
            client.methods.ping(name, A)
            answered.append(name)
            if len(answered) == 100:
                first.send_signal(signal.SIGKILL)

        def try_to_ping(number):
            try:
                ping(number)
            except Exception:
                assert len(answered) >= 100

        gather([lambda n=n: try_to_ping(n) for n in range(200)])
    first.wait()

    second = start_program("--state", "state.db")
    with remote(second) as client:
        assert set(client.methods.list_services()) >= set(answered)


def test_without_a_state_file_a_restart_forgets(run_registry):
    registry, client = run_registry()
    client.methods.ping("users", A)
    registry.stop()
    registry.start(block=False)

    assert client.methods.locate_service("users") == []


def test_what_was_read_has_its_whole_life_again(tmp_path):
    """However long the registry was away, and wherever the wall clock stands now."""
    with running_service(ServiceRegistry(), state=tmp_path / "state") as registry:
        registry.directory.add("users", A, "one", 10)
        registry.drop_expired()
    with running_service(ServiceRegistry(), state=tmp_path / "state") as registry:
        (listed,) = registry.directory.listing()["users"]

        assert registry.directory.registrations() == [Registration("users", A, "one", 10)]
        assert listed.silence < 10
        assert not listed.late


def test_a_ping_that_changes_nothing_is_not_written(tmp_path):
    with running_service(ServiceRegistry(), state=tmp_path / "state") as registry:
        registry.ping("users", A, "one")
        before = (tmp_path / "state-wal").stat().st_size
        for _ in range(50):
            registry.ping("users", A, "one")

        assert (tmp_path / "state-wal").stat().st_size == before
        registry.ping("users", B, "two")
        assert (tmp_path / "state-wal").stat().st_size > before


def test_what_expires_leaves_the_file(tmp_path):
    with running_service(ServiceRegistry(), state=tmp_path / "state", ttl=1e-9) as registry:
        registry.ping("users", A)
        registry.drop_expired()

    assert saved_in(tmp_path / "state") == []


def test_entries_that_may_not_be_registered_are_left_out(tmp_path, caplog):
    with running_service(ServiceRegistry(), state=tmp_path / "state") as registry:
        registry.ping("users", A)
    connection = sqlite3.connect(tmp_path / "state")
    with connection:
        rows = [("users", "javascript:alert(1)", "", 30), ("<b>", A, "", 30), ("a", A, "", -1)]
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
    connection.close()

    with (
        caplog.at_level(logging.INFO),
        running_service(ServiceRegistry(), state=tmp_path / "state") as registry,
    ):
        assert registry.locate_service("*") == [A]
    assert "3 entries in it cannot be used" in caplog.text


# Files that cannot be used


def text_file(path):
    path.write_text("no database, and longer than the header of one would be" * 10)


def other_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.commit()
    connection.close()


def later_version(path):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()


def truncated(path):
    with running_service(ServiceRegistry(), state=path) as registry:
        registry.ping("users", A)
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "not a database"),
        (other_database, "something else"),
        (later_version, "version 2"),
        (truncated, "damaged|malformed"),
        (lambda path: path.mkdir(), "unable to open"),
    ],
)
def test_a_file_that_is_no_state_ends_the_start_and_stays_as_it_was(tmp_path, make, reason):
    path = tmp_path / "state"
    make(path)
    before = path.read_bytes() if path.is_file() else None

    with (
        pytest.raises(ServiceStartError, match=reason) as caught,
        running_service(ServiceRegistry(), state=path),
    ):
        pass

    assert str(path) in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path):
    with (
        pytest.raises(ServiceStartError, match="no folder"),
        running_service(ServiceRegistry(), state=tmp_path / "absent" / "state"),
    ):
        pass


def test_a_folder_that_cannot_be_written():
    with (
        pytest.raises(ServiceStartError, match="unable to open"),
        running_service(ServiceRegistry(), state="/proc/state"),  # not even by root
    ):
        pass


def test_two_registries_on_one_file(start_program, tmp_path):
    start_program("--state", "state.db")

    with (
        pytest.raises(ServiceStartError, match="another process"),
        running_service(ServiceRegistry(), state=tmp_path / "state.db"),
    ):
        pass


def test_an_empty_file_is_a_new_one(tmp_path):
    (tmp_path / "state").touch()
    with running_service(ServiceRegistry(), state=tmp_path / "state") as registry:
        registry.ping("users", A)

    assert saved_in(tmp_path / "state") == [("users", A, "", 30.0)]


# Disks that fill up

IN_A_HURRY = """
from gemstone_sync.registry import command, state

state.RETRY_SECONDS = 0.1
command.main()
"""


def test_a_disk_that_is_full_for_a_while(start_program, tmp_path):
    """The kernel's limit on file sizes stands for it: what is over it fails to be written."""
    program = start_program("--state", "state.db", code=IN_A_HURRY)
    with remote(program) as client:
        client.methods.ping("before", A)
        size = (tmp_path / "state.db-wal").stat().st_size
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

    assert [row[0] for row in saved_in(tmp_path / "state.db")] == ["after", "later", "meanwhile"]


def test_a_disk_that_is_full_at_the_start(tmp_path, run_python):
    done = run_python(
        "import resource\n"
        "from gemstone_sync.registry.command import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "main(['--port', '0', '--state', 'state.db'])\n"
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "state.db cannot be used" in line


# By itself


def test_many_changes_at_once_share_their_writes(tmp_path):
    directory = Directory()
    file = StateFile(tmp_path / "state", directory.registrations, logging.getLogger("test"))
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

    assert {row[0] for row in saved_in(tmp_path / "state")} == {f"n{n}" for n in range(0, 300, 2)}


def test_what_was_noted_last_is_written_at_the_end(tmp_path):
    file = StateFile(tmp_path / "state", list, logging.getLogger("test"))
    file.open()
    file.note(Registration("users", A, None, 5.0), True)
    file.close()
    file.close()
    file.flush()

    assert saved_in(tmp_path / "state") == [("users", A, "", 5.0)]


def test_a_file_that_breaks_is_written_anew(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("gemstone_sync.registry.state.RETRY_SECONDS", 0.05)
    directory = Directory()
    file = StateFile(tmp_path / "state", directory.registrations, logging.getLogger("test"))
    file.open()
    directory.on_change = file.note
    directory.add("users", A)
    file.flush()
    file._connection.execute("DROP TABLE entries")  # as another program might
    directory.add("orders", B)
    file.flush()

    wait_until(lambda: "written again" in caplog.text, "the next attempt")
    file.close()

    assert [row[0] for row in saved_in(tmp_path / "state")] == ["orders", "users"]
