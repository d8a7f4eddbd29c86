"""A service as a program: what keeps it from starting is one line, and an exit code."""

import pytest

SERVICE = """
import gemstone_sync as gemstone

class Shop(gemstone.MicroService):
    name = "shop"
    {body}

if __name__ == "__main__":
    {start}
"""
START = "Shop().start()"


@pytest.mark.parametrize(
    ("body", "start", "expected"),
    [
        (
            "event_transports = 'ampq://ada:s3cret@h'",
            START,
            "shop: Shop.event_transports: no events",
        ),
        (
            "event_transports = [5]",
            START,
            "shop: Shop.event_transports must be a list of event tra",
        ),
        ("workers = 'two'", START, "shop: Shop.workers: must be a whole number"),
        ("default_timeout = '3 apples'", START, "shop: Shop.default_timeout: must be"),
        (
            "default_timeout = '3 apples'",
            "Shop().start(workers=2)",
            "shop: Shop.default_timeout: must",
        ),
        (
            "default_timeout = '3 apples'",
            "gemstone.run(Shop())",
            "shop: Shop.default_timeout: must be",
        ),
        ("template_dir = 'nowhere'", START, "shop: Shop: no directory "),
        ("outbox = 'outbox.db'", START, "shop: outbox is set: it needs event_transports"),
        (
            "event_transports = [gemstone.KombuEventTransport('ampq://h')]",
            START,
            "shop: KombuEventTransport(ampq://h): kombu cannot use this URL",
        ),
    ],
)
def test_a_class_that_is_wrong_is_one_line_and_exit_code_2(run_python, body, start, expected):
    done = run_python(SERVICE.format(body=body, start=start), GEMSTONE_PORT="0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith(expected)
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ampq://guest:guest@localhost//", "no events over ampq://; did you mean amqp://?"),
        ("localhost:5672", "localhost:5672 has no scheme; did you mean amqp://localhost:5672?"),
        ("rabbit", "rabbit has no scheme; did you mean amqp://rabbit or sqlite:///rabbit?"),
    ],
)
def test_a_wrong_broker_is_one_line_that_names_the_variable(run_python, tmp_path, value, expected):
    done = run_python(SERVICE.format(body="", start=START), GEMSTONE_EVENT_TRANSPORTS=value)
    assert (done.returncode, done.stderr) == (2, f"shop: GEMSTONE_EVENT_TRANSPORTS: {expected}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_a_class_statement_that_fails_ends_with_the_line(run_python):
    body = "event_transports = [gemstone.transport_from_url('ampq://ada:s3cret@h')]"
    done = run_python(SERVICE.format(body=body, start=START))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("no events over ampq://; did you mean amqp://?")
