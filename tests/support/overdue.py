"""The limit of a test that is not marked slow.

Each run ends with the tests that took longer. On a machine that is busy others do, too: ``pytest
--overdue`` runs those of the last run again, one after the other, and fails if they still do.
"""

import collections

import pytest

#: Seconds for a test, its fixtures included.
LIMIT = 5.0

HELP = f"run the tests again that took over {LIMIT:g} s without being marked slow; they must not"

#: Where pytest's cache keeps their ids.
_CACHE = "gemstone_sync/overdue"


class Overdue:
    """A plugin of the process that hears of all tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._seconds: collections.Counter[str] = collections.Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._config.option.overdue:
            last = self._config.cache.get(_CACHE, [])
            items[:] = [item for item in items if item.nodeid in last]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "slow" not in report.keywords:
            self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._config.option.collectonly:
            return
        found = {test: spent for test, spent in self._seconds.items() if spent > LIMIT}
        self._config.cache.set(_CACHE, list(found))
        if self._config.option.overdue and session.exitstatus != pytest.ExitCode.TESTS_FAILED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED if found else pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for test in self._config.cache.get(_CACHE, []):
            terminalreporter.write_line(f"{self._seconds[test]:.1f} s, not marked slow: {test}")
