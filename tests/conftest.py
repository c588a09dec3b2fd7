"""What holds for every test: the Hypothesis profiles, and that in CI a test which does not run is a failure."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Before any test imports it.
pytest.register_assert_rewrite("faasflow.testing.contracts")

IN_CI = bool(os.environ.get("CI"))

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if IN_CI else "dev")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if IN_CI and not is_worker:
        config.pluginmanager.register(EveryTestRuns(), "every-test-runs")


class EveryTestRuns:
    """Fails the run when a test is skipped or expected to fail, and names it."""

    def __init__(self) -> None:
        self.missed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look_at(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look_at(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.missed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name, reason in self.missed.items():
            terminalreporter.write_line(f"NOT RUN {name}: {reason}. In CI every test must run and pass.", red=True)

    def _look_at(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            self.missed[report.nodeid] = _reason(report)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail ({report.wasxfail})"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(text).removeprefix("Skipped: ")
