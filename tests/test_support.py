"""The tools of the tests keep their word: waiting, free ports, and no silent skips in CI."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import free_port, wait_until

pytest_plugins = ["pytester"]


def test_wait_until_gives_the_first_true_value() -> None:
    answers = iter([0, None, "", "done"])

    assert wait_until(lambda: next(answers), "an answer") == "done"


def test_wait_until_fails_with_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"Waited 0.01 s in vain for: the moon\."):
        wait_until(lambda: False, "the moon", timeout=0.01)


def test_wait_until_takes_a_refused_connection_for_not_yet() -> None:
    port = free_port()

    with pytest.raises(AssertionError, match=r"a server.*ConnectionRefusedError"):
        wait_until(lambda: socket.create_connection(("127.0.0.1", port)), "a server", timeout=0.01)


def test_a_free_port_can_be_bound_and_is_below_those_of_outgoing_connections() -> None:
    port = free_port()

    with socket.create_server(("127.0.0.1", port)):
        assert 10_000 <= port < 32_768


SKIPS = """
import pytest

@pytest.mark.skip(reason="no time")
def test_marked(): pass

def test_called(): pytest.skip("no server")

@pytest.mark.xfail(reason="a bug")
def test_expected(): assert False
"""


@pytest.mark.parametrize("arguments", [["-n0"], ["-n2"]], ids=["one process", "two workers"])
def test_in_ci_every_skip_is_named_and_fails_the_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    result = _run(pytester, monkeypatch, arguments, ci="true")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    named = sorted(
        line.removesuffix(". In CI every test must run and pass.") for line in result.outlines if "NOT" in line
    )
    assert named == [
        "NOT RUN test_file.py: could not import 'no_such_module': No module named 'no_such_module'",
        "NOT RUN test_skips.py::test_called: no server",
        "NOT RUN test_skips.py::test_expected: expected to fail (a bug)",
        "NOT RUN test_skips.py::test_marked: no time",
    ]
    assert result.outlines[-1].startswith("1 passed, 3 skipped, 1 xfailed in")


def test_a_skip_is_no_failure_on_a_developers_machine(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _run(pytester, monkeypatch, ["-n0"], ci="")

    assert result.ret == pytest.ExitCode.OK
    assert "NOT RUN" not in result.stdout.str()


def _run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], *, ci: str
) -> pytest.RunResult:
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(
        test_skips=SKIPS,
        test_file="import pytest\npytest.importorskip('no_such_module')",
        test_passes="def test_it(): pass",
    )
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *arguments)
