"""`faasflow pause`, `resume` and `stop` against a gateway: one request, several, or all that fit."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
import requests
from click.testing import Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from faasflow.local import Gateway, load_stack
from tests.cli.support import Project, Terminal
from tests.support import free_port, wait_until

Run = Callable[..., Result]

# The first node is held for as long as there is no file; the second one tells what it was given.
HELD = """
    import time
    from pathlib import Path

    OPEN = Path(__file__).with_name("open")

    def define(flow, context):
        dag = flow.dag()
        dag.node("hold").modify(hold)
        dag.node("say").modify(lambda data: data + b"!")
        dag.edge("hold", "say")

    def hold(data):
        while not OPEN.exists():
            time.sleep(0.02)
        return data
"""


class Office:
    """Two equal flows on a gateway, of which requests are held in their first node until `let_go`."""

    def __init__(self, project: Project, gateway: Gateway) -> None:
        self.url = gateway.url
        self._project = project

    def let_go(self) -> None:
        for flow in ("orders", "returns"):
            (self._project.folder / flow / "open").touch()

    def start(self, *ids: str, flow: str = "orders") -> None:
        for id in ids:
            headers = {"X-Faas-Flow-Reqid": id, "Connection": "close"}
            assert requests.post(f"{self.url}/function/{flow}", b"tea", headers=headers).status_code == 202

    def state(self, id: str, *, flow: str = "orders") -> str:
        query = {"state": id}
        return requests.get(f"{self.url}/function/{flow}", params=query, headers={"Connection": "close"}).text

    def is_parked(self, id: str) -> bool:
        url = f"{self.url}/function/orders/flow/{id}"
        return bool(requests.get(url, headers={"Connection": "close"}).json()["parked"])

    def states(self, *ids: str) -> list[str]:
        return [self.state(id) for id in ids]


@pytest.fixture
def office(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    project.flow("orders", HELD)
    project.flow("returns", HELD)
    gateway = Gateway(load_stack(project.stack), state_dir=tmp_path / "state", port=free_port())
    gateway.start()
    monkeypatch.setenv("OPENFAAS_URL", gateway.url)
    served = Office(project, gateway)
    yield served
    served.let_go()
    gateway.stop(grace=2)


def test_a_request_is_paused_and_resumed_without_its_flow_being_named(faasflow: Run, office: Office) -> None:
    office.start("r-1", flow="returns")
    paused, state = faasflow("pause", "r-1"), office.state("r-1", flow="returns")
    resumed = faasflow("resume", "r-1")

    assert (paused.exit_code, paused.stdout, paused.stderr) == (0, "Successfully paused request r-1\n", "")
    assert (resumed.exit_code, resumed.stdout, resumed.stderr) == (0, "Successfully resumed request r-1\n", "")
    assert (state, office.state("r-1", flow="returns")) == ("PAUSED", "RUNNING")


def test_a_paused_request_comes_to_its_end_once_it_is_resumed(faasflow: Run, office: Office) -> None:
    office.start("o-1")
    faasflow("pause", "o-1")
    office.let_go()
    wait_until(lambda: office.is_parked("o-1"), "its second node is parked")
    faasflow("resume", "o-1")

    assert faasflow("result", "o-1", "--wait", "30s").stdout == "tea!"


@pytest.mark.parametrize(("command", "state"), [("pause", "PAUSED"), ("resume", "RUNNING"), ("stop", "STOPPED")])
def test_what_is_done_already_may_be_done_again(faasflow: Run, office: Office, command: str, state: str) -> None:
    office.start("o-1")
    results = [faasflow(command, "o-1", "--flow", "orders") for _ in range(2)]

    assert [result.exit_code for result in results] == [0, 0]
    assert office.state("o-1") == state


def test_several_requests_are_stopped_and_what_cannot_be_is_told(faasflow: Run, office: Office) -> None:
    office.start("o-1", "o 2/?#ü")
    result = faasflow("stop", "o-1", "nobody", "o 2/?#ü", "o-1")

    assert result.exit_code == 1
    assert result.stdout == "Successfully stopped request o-1\nSuccessfully stopped request o 2/?#ü\n"
    assert f"error: No flow of {office.url} knows request 'nobody'." in result.stderr
    assert result.stderr.endswith("2 of 3 stopped.\n")
    assert office.states("o-1", "o 2/?#ü") == ["STOPPED", "STOPPED"]


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_request_that_has_ended_cannot_be_steered(faasflow: Run, office: Office, command: str) -> None:
    office.start("o-1")
    faasflow("stop", "o-1")
    result, dry = faasflow(command, "o-1"), faasflow(command, "o-1", "--dry-run")

    assert (result.exit_code, result.stdout, dry.exit_code, dry.stdout) == (1, "", 1, "")
    for one in (result, dry):
        assert f"orders: Request 'o-1' is STOPPED; {command} does not apply." in one.stderr


def test_all_of_a_flow_are_paused_resumed_and_stopped_the_oldest_first(faasflow: Run, office: Office) -> None:
    office.start("o-1", "o-2")
    office.start("r-1", flow="returns")
    seen = []
    for command in ("pause", "resume", "stop"):
        result = faasflow(command, "--all", "--flow", "orders")
        seen.append((result.exit_code, result.stdout.split(), result.stderr, office.states("o-1", "o-2")))

    assert [(code, lines[3::4], states) for code, lines, _, states in seen] == [
        (0, ["o-1", "o-2"], ["PAUSED"] * 2),
        (0, ["o-1", "o-2"], ["RUNNING"] * 2),
        (0, ["o-1", "o-2"], ["STOPPED"] * 2),
    ]
    assert [stderr for _, _, stderr, _ in seen] == ["2 of 2 paused.\n", "2 of 2 resumed.\n", "2 of 2 stopped.\n"]
    assert office.state("r-1", flow="returns") == "RUNNING"
    assert faasflow("stop", "--all", "--flow", "orders").stderr == "No request fits.\n"


@pytest.mark.parametrize(
    ("options", "stopped"),
    [
        (["--state", "PAUSED"], ["o-1"]),
        (["--state", "running", "--state", "paused", "--flow", "orders"], ["o-1", "o-2"]),
        (["--since", "1h"], ["o-1", "o-2", "r-1"]),
        (["--before", "1h"], []),
        (["--flow", "returns", "--since", "1h"], ["r-1"]),
    ],
)
def test_all_that_the_options_fit_are_stopped(
    faasflow: Run, office: Office, options: list[str], stopped: list[str]
) -> None:
    office.start("o-1", "o-2")
    office.start("r-1", flow="returns")
    faasflow("pause", "o-1")
    dry, result = faasflow("stop", "--all", "--dry-run", *options), faasflow("stop", "--all", *options)

    assert [line.split()[1] for line in dry.stdout.splitlines()[1:]] == stopped
    assert dry.stderr == f"{len(stopped)} would be stopped.\n"
    assert result.stdout.splitlines() == [f"Successfully stopped request {id}" for id in stopped]
    assert (dry.exit_code, result.exit_code) == (0, 0)


def test_what_would_be_done_is_shown_and_not_done(faasflow: Run, office: Office) -> None:
    office.start("o-1")
    result = faasflow("pause", "o-1", "--dry-run")

    titles, row = result.stdout.splitlines()
    assert titles.split() == ["Flow", "Request", "State", "Started", "Duration", "Failure"]
    assert re.fullmatch(r"orders  o-1      RUNNING  .{10} \d\d:\d\d:\d\d  [\d.]+ m?s", row)
    assert (result.exit_code, office.state("o-1")) == (0, "RUNNING")


def test_what_became_of_each_is_json_for_machines(faasflow: Run, office: Office) -> None:
    office.start("o-1")
    result = faasflow("stop", "o-1", "nobody", "--json")
    dry = faasflow("stop", "--all", "--dry-run", "--json")

    assert json.loads(result.stdout) == [
        {
            "flow": None,
            "request_id": "nobody",
            "state": None,
            "error": f"No flow of {office.url} knows request 'nobody'.",
        },
        {"flow": "orders", "request_id": "o-1", "state": "STOPPED", "error": None},
    ]
    assert (result.exit_code, json.loads(dry.stdout)) == (1, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause", "--all"], "This would pause every request of every flow. Say which with --flow, --state, --since"),
        (["stop", "--all"], "This would stop every request of every flow. Say which with --flow, --state, --since"),
        (["stop"], "Name a REQUEST or several, or ask for --all"),
        (["pause", "o-1", "--all"], "Name a REQUEST or several, or ask for --all"),
        (["resume", "o-1", "--since", "1h"], "choose among --all requests, not for a REQUEST"),
        (["stop", "--all", "--state", "FINISHED"], "'FINISHED' is not one of"),
    ],
)
def test_a_misuse_ends_with_2_and_the_way_out(faasflow: Run, arguments: list[str], said: str) -> None:
    result = faasflow(*arguments)

    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_nothing_is_asked_and_progress_is_shown_on_a_terminal(
    office: Office, terminal: Callable[..., Terminal]
) -> None:
    office.start("o-1", "o-2")
    shown = terminal("stop", "--all", "--flow", "orders", "--gateway", office.url)

    assert shown.end() == 0
    assert b"1 of 2 ..." in shown.output
    assert shown.screen == [
        "Successfully stopped request o-1",
        "Successfully stopped request o-2",
        "2 of 2 stopped.",
    ]


def test_json_on_a_terminal_is_json(office: Office, terminal: Callable[..., Terminal]) -> None:
    office.start("o-1", "o-2")
    shown = terminal("stop", "--all", "--flow", "orders", "--json", "--gateway", office.url)

    assert shown.end() == 0
    assert [row["state"] for row in json.loads("\n".join(shown.screen[:-1]))] == ["STOPPED", "STOPPED"]
    assert shown.screen[-1] == "2 of 2 stopped."


@pytest.fixture
def far(httpserver: HTTPServer) -> HTTPServer:
    """A gateway with one flow of three running requests, which answers commands as a test says."""
    described = [{"name": "orders", "labels": {"faas-flow": "1"}}]
    httpserver.expect_request("/system/functions").respond_with_json(described)
    now = time.time()
    rows = [{"request_id": f"o-{n}", "state": "RUNNING", "created": now - n, "ended": None} for n in (1, 2, 3)]
    pages = {"": (rows[:2], "o-2"), "o-2": (rows[2:], None)}

    def listed(request: Request) -> Response:
        part, following = pages[request.args.get("after", "")]
        return Response(json.dumps({"requests": part, "next": following}), content_type="application/json")

    httpserver.expect_request("/function/orders/flow", method="GET").respond_with_handler(listed)
    return httpserver


def test_a_request_that_ends_before_its_turn_is_no_failure_of_all(faasflow: Run, far: HTTPServer) -> None:
    said = {"error": "Request 'o-2' is FINISHED; stop does not apply.", "request_id": "o-2", "hint": ""}
    far.expect_request("/function/orders/flow/o-2/stop").respond_with_json(said, status=409)
    for id in ("o-1", "o-3"):
        far.expect_request(f"/function/orders/flow/{id}/stop").respond_with_data(f"Successfully stopped request {id}")
    result = faasflow("stop", "--all", "--state", "RUNNING", "--gateway", far.url_for(""))

    assert result.exit_code == 0
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["o-3", "o-1"]
    assert result.stderr == f"orders: {said['error']}\n2 of 3 stopped, 1 had ended.\n"


def test_a_request_that_could_not_be_reached_fails_and_the_others_are_done(faasflow: Run, far: HTTPServer) -> None:
    for id, status in (("o-1", 200), ("o-2", 503), ("o-3", 200)):
        far.expect_request(f"/function/orders/flow/{id}/pause").respond_with_data(
            f"Successfully paused request {id}", status=status
        )
    result = faasflow("pause", "--all", "--flow", "orders", "--gateway", far.url_for(""))
    paused = [f"Successfully paused request {id}" for id in ("o-3", "o-1")]

    assert (result.exit_code, sorted(result.stdout.splitlines())) == (1, sorted(paused))
    assert "error: orders: /function/orders/flow/o-2/pause answered 503" in result.stderr
    assert result.stderr.endswith("2 of 3 paused.\n")


def test_ctrl_c_says_how_far_it_came(project: Project, far: HTTPServer, terminal: Callable[..., Terminal]) -> None:
    held = Event()

    def hold(request: Request) -> Response:
        held.wait(30)
        return Response("late")

    far.expect_request("/function/orders/flow/o-3/stop").respond_with_data("Successfully stopped request o-3")
    far.expect_request("/function/orders/flow/o-2/stop").respond_with_handler(hold)
    shown = terminal("stop", "--all", "--flow", "orders", "--gateway", far.url_for(""))
    shown.read_until("2 of 3 ...")
    shown.press_ctrl_c()

    code = shown.end()
    held.set()
    assert code == 130
    assert shown.screen == ["Successfully stopped request o-3", "Interrupted: 1 of 3 stopped."]
