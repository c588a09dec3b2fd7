"""Every command takes a request the same way, whatever its id; and a login in a URL is sent and never shown."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from click import BadParameter, UsageError
from click.testing import CliRunner, Result
from pytest_httpserver import HTTPServer

from faasflow.cli import main
from faasflow.cli.options import moment
from faasflow.cli.remote import Remote
from faasflow.cli.request import Named
from faasflow.errors import ConfigError
from faasflow.local import Gateway, load_stack
from tests.cli.support import Project
from tests.support import free_port, wait_until

Run = Callable[..., Result]

FATES = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(lambda data: data)
        dag.node("second").modify(meet)
        dag.edge("first", "second")

    def meet(data):
        if data == b"fail":
            raise ValueError("no luck")
        return data
"""
ODD_IDS = ("..", ".", "/etc/passwd", "a/b", "a//b/../c", "ü & ?=#%2F")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a gateway with two equal flows. Request `done` has finished, `failed` has failed, and so have those
    with odd ids."""
    folder = tmp_path_factory.mktemp("project")
    project = Project(folder)
    project.flow("fates", FATES)
    project.flow("others", FATES)
    served = Gateway(load_stack(project.stack), state_dir=folder / "state", port=free_port())
    served.start()
    try:
        start(served.url, "done", b"ok")
        for id in ("failed", *ODD_IDS):
            start(served.url, id, b"fail")
        yield served.url
    finally:
        served.stop(grace=0)


def start(url: str, id: str, body: bytes) -> None:
    runner = CliRunner()
    answer = runner.invoke(main, ["invoke", "fates", "-g", url, "-H", f"X-Faas-Flow-Reqid: {id}"], input=body)
    assert answer.exit_code == 0, answer.output
    wait_until(lambda: state(url, id) in ("FINISHED", "FAILED"), f"{id} has ended")


def state(url: str, id: str) -> str:
    headers = {"Connection": "close"}
    return requests.get(f"{url}/function/fates", params={"state": id}, headers=headers).text.strip()


def forms(url: str, id: str) -> list[list[str]]:
    return [["fates", id], [id], ["--flow", "fates", id], [f"{url}/function/fates/flow/{quote(id, safe='')}"]]


@pytest.mark.parametrize("form", range(4))
def test_every_command_takes_a_request_the_same_way(faasflow: Run, gateway: str, form: int) -> None:
    done, failed = forms(gateway, "done")[form], forms(gateway, "failed")[form]
    # A URL says which gateway.
    options = [] if form == 3 else ["-g", gateway]

    assert faasflow("state", *done, *options).stdout == "FINISHED\n"
    assert faasflow("result", *done, *options).stdout == "ok"
    assert "FINISHED  fates, request done" in faasflow("track", "--no-logs", *done, *options).stdout
    assert "would be retried" not in faasflow("retry", *failed, *options, "--dry-run").stderr
    assert "It would go on from node 'second'." in faasflow("retry", *failed, *options, "--dry-run").stderr
    for command in ("pause", "resume", "stop"):
        refused = faasflow(command, *done, *options)
        assert (refused.exit_code, "is FINISHED" in refused.stderr) == (1, True), refused.stderr


@pytest.mark.parametrize("id", ODD_IDS)
def test_every_command_takes_any_id(faasflow: Run, gateway: str, id: str) -> None:
    at = ["fates", id, "-g", gateway]

    assert faasflow("state", *at).stdout == "FAILED\n"
    assert "Node 'second' failed: ValueError: no luck" in faasflow("result", *at).stderr
    assert "ValueError: no luck" in faasflow("track", "--no-logs", *at).stdout
    assert faasflow("track", "--input", "--node", "second", *at).stdout == "fail"
    assert "is FAILED" in faasflow("stop", *at).stderr
    retried = faasflow("retry", *at, "--data", "mended", "--wait", "30s")
    assert (retried.exit_code, retried.stdout) == (0, "mended"), retried.stderr
    assert retried.stderr.strip() == f"Request {id} is queued again"
    assert faasflow("logs", "fates", "--request", id, "-g", gateway).exit_code == 0


def test_several_requests_may_stand_behind_their_flow(faasflow: Run, gateway: str) -> None:
    both = faasflow("stop", "fates", "done", "failed", "-g", gateway)
    without = faasflow("stop", "done", "failed", "-g", gateway)

    assert both.stderr == without.stderr
    assert "0 of 2 stopped" in both.stderr


def test_a_wait_says_at_once_which_request_is_waited_for(faasflow: Run, gateway: str) -> None:
    result = faasflow("invoke", "fates", "--data", "x", "--wait", "30s", "-g", gateway)

    assert result.stdout == "x"
    first, *_ = result.stderr.splitlines()
    assert state(gateway, first.removeprefix("request ")) == "FINISHED"


def test_a_recorded_request_is_run_again_as_a_new_one(faasflow: Run, gateway: str) -> None:
    again = faasflow("rerun", "done", "-g", gateway, "--wait", "30s", "--id", "done-2")
    other = faasflow("rerun", "fates", "failed", "-g", gateway, "--wait", "30s", "--data", "better")
    unknown = faasflow("rerun", "fates", "nobody", "-g", gateway)

    assert (again.stdout, again.stderr) == ("ok", "request done-2\n")
    assert (other.exit_code, other.stdout) == (0, "better")
    assert (state(gateway, "failed"), state(gateway, "done-2")) == ("FAILED", "FINISHED")
    assert (unknown.exit_code, unknown.stdout) == (1, "")


def test_the_counter_of_invocations_counts_invocations(faasflow: Run, gateway: str) -> None:
    def count() -> int:
        (row,) = [line.split() for line in faasflow("list", "-g", gateway).stdout.splitlines() if "fates" in line]
        return int(row[2])

    before = count()
    faasflow("invoke", "fates", "--data", "x", "--wait", "30s", "-g", gateway)
    faasflow("track", "fates", "done", "-g", gateway)
    faasflow("state", "fates", "done", "-g", gateway)

    assert count() == before + 1


@pytest.mark.parametrize("command", ["state", "track", "result"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument 'REQUEST'."),
        (["a", "b", "c"], "Name one request, as [FLOW] REQUEST; 'c' is too much."),
        (["a", "b", "--flow", "c"], "The flow is named twice: 'a' and --flow 'c'."),
        (["https://user:secret@host/else"], "is no URL of a request. Write it like"),
        (["b", "http://host/function/a/flow/r"], "The URL is that of a request of 'a', not of 'b'."),
    ],
)
def test_a_request_that_is_named_wrongly_is_a_misuse(
    faasflow: Run, command: str, words: list[str], message: str
) -> None:
    result = faasflow(command, *words)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://h:1/function/f/flow/r", Named("r", "f", "http://h:1")),
        ("https://h/base/function/f/flow/a%2Fb/result", Named("a/b", "f", "https://h/base")),
        ("http://h/function/f/flow/-/state?id=..", Named("..", "f", "http://h")),
        ("http://h/function/f.ns?state=r", Named("r", "f.ns", "http://h")),
        ("http://h/async-function/f/flow/r?wait=1s", Named("r", "f", "http://h")),
    ],
)
def test_a_url_names_gateway_flow_and_request(url: str, named: Named) -> None:
    assert Named.of(url) == named


@pytest.mark.parametrize("url", ["http://h/", "http://h/function/f", "http://h/function/f/flow", "http://h/flow/r"])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of a request"):
        Named.of(url)


@pytest.mark.parametrize(
    "command", [["list"], ["invoke", "f", "-d", ""], ["state", "f", "r"], ["logs", "f"], ["list", "f"]]
)
def test_a_login_in_the_url_is_sent_as_utf8_and_never_shown(
    faasflow: Run, httpserver: HTTPServer, command: list[str]
) -> None:
    httpserver.expect_request("/system/functions").respond_with_json({}, status=401)
    httpserver.expect_request("/system/logs").respond_with_json({}, status=401)
    httpserver.expect_request("/function/f").respond_with_data("", status=401)
    httpserver.expect_request("/function/f/flow").respond_with_data("", status=401)
    login = f"http://admin:p%40ss%3Aw%C3%B6rd@127.0.0.1:{httpserver.port}"

    result = faasflow(*command, "-g", login)

    assert result.exit_code == 1
    assert "p%40ss" not in result.output
    assert "p@ss" not in result.output
    request, _ = httpserver.log[0]
    assert request.headers["Authorization"] == "Basic " + base64.b64encode("admin:p@ss:wörd".encode()).decode()


def test_a_login_is_not_shown_by_a_url_that_is_wrong(faasflow: Run) -> None:
    for url in ("http://admin:s3cret#x@h", "ftp://admin:s3cret@h", "http://admin:s3cret@h:port", "http://a:s3cret@h\n"):
        result = faasflow("list", "-g", url)

        assert result.exit_code == 1
        assert "s3cret" not in result.output


@pytest.mark.parametrize(("end", "name"), [("\r", "CR"), ("\n", "LF"), ("\r\n", "CR")])
def test_a_line_break_in_the_url_is_refused_by_name(
    faasflow: Run, monkeypatch: pytest.MonkeyPatch, end: str, name: str
) -> None:
    monkeypatch.setenv("OPENFAAS_URL", f"http://127.0.0.1:8080{end}")

    result = faasflow("list")

    assert result.exit_code == 1
    assert f"contains {name}, " in result.stderr
    with pytest.raises(ConfigError, match=name):
        Remote(f"http://h{end}/path")


def test_a_time_is_how_long_ago_or_rfc_3339_or_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()

    assert moment("2h") == pytest.approx(now - 7200, abs=5)
    assert moment("1d12h") == pytest.approx(now - 36 * 3600, abs=5)
    assert moment("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    assert moment("2026-01-31T12:00:00+01:00") == datetime(2026, 1, 31, 11, tzinfo=UTC).timestamp()
    assert moment("2026-01-31") == datetime(2026, 1, 31).timestamp()
    assert moment("1769860800.5") == 1769860800.5
    for text in ("", "soon", "2026-13-01", "2026-01-31T12:00", "-2h"):
        with pytest.raises(BadParameter, match="is no time"):
            moment(text)


@pytest.mark.parametrize("command", [["list", "fates"], ["logs", "fates"]])
def test_since_takes_durations_and_times_alike(faasflow: Run, gateway: str, command: list[str]) -> None:
    hour = timedelta(hours=1)
    times = ["1h", (datetime.now(UTC) - hour).isoformat(), (datetime.now(UTC) - hour).strftime("%Y-%m-%dT%H:%M:%SZ")]
    shown = [faasflow(*command, "--since", one, "-g", gateway) for one in times]

    assert [result.exit_code for result in shown] == [0, 0, 0], shown[0].stderr
    assert len({result.stdout for result in shown}) == 1


def test_every_command_answers_minus_h(faasflow: Run) -> None:
    for name in main.commands:
        assert faasflow(name, "-h").exit_code == 0
    assert faasflow("-h").exit_code == 0


def test_a_result_file_that_cannot_be_written_is_one_line(faasflow: Run, gateway: str, tmp_path: Path) -> None:
    result = faasflow("result", "fates", "done", "-g", gateway, "-o", str(tmp_path / "none" / "file"))

    assert result.exit_code == 1
    assert "cannot be written: No such file or directory." in result.stderr
