"""`faasflow logs`: the lines of a function as they are and as they come, and those that belong to one request."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from click.testing import Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from faasflow.cli.remote import LogLine
from faasflow.cli.request_logs import own_lines, without_fields
from faasflow.local import Gateway, load_stack
from faasflow.logs.form import Entry, as_json, as_text
from faasflow.scope import Scope
from tests.cli.support import CHAIN, SHOUT, Project, Terminal
from tests.support import free_port, wait_until

Run = Callable[..., Result]
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


class Site:
    """A flow `chain`, which calls `shout`, behind a gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = Project(folder)
        project.flow("chain", CHAIN)
        project.function("shout", SHOUT.replace('"shouting"', 'event.body.decode() + " is heard"'))
        self.gateway = Gateway(load_stack(project.stack), state_dir=folder / "state", port=free_port())
        self.gateway.start()
        self.url = self.gateway.url

    def run(self, id: str) -> None:
        """Run one request to its end; its id is its body."""
        headers = {"X-Faas-Flow-Reqid": id, "Connection": "close", "Prefer": "wait=30"}
        answer = requests.post(f"{self.url}/function/chain", id.encode(), headers=headers)
        assert answer.text == f"{id.upper()}!"

    def say(self, text: str) -> None:
        """Call the function, and wait for its line."""
        requests.post(f"{self.url}/function/shout", text.encode(), headers={"Connection": "close"})
        wait_until(lambda: f"{text} is heard" in self.log("shout"), "the line is logged")

    def log(self, name: str) -> str:
        answer = requests.get(f"{self.url}/system/logs?name={name}", headers={"Connection": "close"})
        return "\n".join(json.loads(line)["text"] for line in answer.text.splitlines())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.gateway.stop(grace=1)


@pytest.fixture
def at(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("OPENFAAS_URL", site.url)
    return site


def test_the_lines_of_a_function_come_with_their_time(faasflow: Run, at: Site) -> None:
    for word in ("one", "two", "three"):
        at.say(word)
    every, last, old = (
        faasflow("logs", "shout"),
        faasflow("logs", "shout", "--tail", "2"),
        faasflow("logs", "shout", "--since", "1h"),
    )

    assert re.search(rf"^{TIME}  one is heard$", every.stdout, re.MULTILINE)
    assert [line.split("  ")[1] for line in last.stdout.splitlines()] == ["two is heard", "three is heard"]
    assert old.stdout == every.stdout
    assert (every.exit_code, every.stderr) == (0, "")


def test_lines_are_json_for_machines(faasflow: Run, at: Site) -> None:
    at.say("json")
    row = json.loads(faasflow("logs", "shout", "--tail", "1", "--json").stdout)

    assert (row["name"], row["text"]) == ("shout", "json is heard")
    assert set(row) == {"name", "namespace", "instance", "timestamp", "text"}


def test_lines_are_followed_until_ctrl_c(site: Site, terminal: Callable[..., Terminal]) -> None:
    site.say("before")
    shown = terminal("logs", "shout", "--follow", "--tail", "1", "--gateway", site.url)
    shown.read_until("before is heard")
    requests.post(f"{site.url}/function/shout", b"after", headers={"Connection": "close"})
    shown.read_until("after is heard")
    shown.press_ctrl_c()

    assert shown.end() == 130
    assert [line.split("  ")[1] for line in shown.screen] == ["before is heard", "after is heard"]


def test_what_would_steer_a_terminal_is_shown_instead(site: Site, terminal: Callable[..., Terminal]) -> None:
    site.say("\x1b[2J")
    shown = terminal("logs", "shout", "--tail", "1", "--gateway", site.url)

    assert shown.end() == 0
    assert shown.screen[0].endswith("␛[2J is heard")


def test_a_request_has_the_lines_of_its_flow_and_of_what_it_called_by_time(faasflow: Run, at: Site) -> None:
    at.run("r-1")
    at.run("r-10")
    named, found = faasflow("logs", "chain", "--request", "r-1"), faasflow("logs", "--request", "r-1")
    lines = named.stdout.splitlines()

    assert (named.exit_code, named.stderr, found.stdout) == (0, "", named.stdout)
    assert lines == sorted(lines, key=lambda line: line[:23])
    assert any(re.fullmatch(rf"{TIME}  shout  r-1 is heard", line) for line in lines)
    assert "r-10" not in named.stdout
    assert len([line for line in lines if "  chain  " in line and "request=r-1 " in line]) == len(lines) - 1
    assert faasflow("logs", "--request", "r-1", "--tail", "1").stdout.splitlines() == lines[-1:]


def test_a_request_that_is_not_known_has_none(faasflow: Run, at: Site) -> None:
    result = faasflow("logs", "--request", "r-none")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "knows request 'r-none'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [([], "Name a function or flow"), (["--request", "r-1", "--follow"], "does not go with --request")],
)
def test_what_cannot_be_shown_is_a_misuse(faasflow: Run, arguments: list[str], reason: str) -> None:
    result = faasflow("logs", *arguments)

    assert result.exit_code == 2
    assert reason in result.stderr


def test_a_function_that_is_not_there_is_an_error(faasflow: Run, at: Site) -> None:
    result = faasflow("logs", "shuot")

    assert result.exit_code == 1
    assert "There is no function 'shuot'" in result.stderr


def test_a_gateway_is_asked_as_openfaas_has_it(faasflow: Run, elsewhere: HTTPServer, tmp_path: Path) -> None:
    """Names with a namespace, times as RFC 3339, the login that faas-cli keeps, and what Go writes for a time."""
    seen: list[Request] = []
    lines = (
        '{"name":"shout","namespace":"team","instance":"a","timestamp":"2026-01-31T12:00:00.123456789Z","text":"hello\\n"}\n'
        "\n"
        '{"name":"shout","namespace":"team","instance":"b","timestamp":"2026-01-31T12:00:01Z","text":"again"}\n'
    )

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(lines, content_type="application/x-ndjson")

    elsewhere.expect_request("/system/logs").respond_with_handler(answer)
    token = base64.b64encode(b"admin:secret").decode()
    (tmp_path / "logins").mkdir()
    url = elsewhere.url_for("").rstrip("/")
    (tmp_path / "logins" / "config.yml").write_text(f"auths:\n- gateway: {url}\n  auth: basic\n  token: {token}\n")
    result = faasflow("logs", "shout.team", "--since", "10m", "--tail", "5")

    (request,) = seen
    since = datetime.fromisoformat(request.args["since"])
    assert 595 < (datetime.now(UTC) - since).total_seconds() < 660
    assert (request.args["name"], request.args["namespace"], request.args["tail"]) == ("shout", "team", "5")
    assert request.args["follow"] == "false"
    assert request.headers["Authorization"] == f"Basic {token}"
    local = datetime(2026, 1, 31, 12, tzinfo=UTC).astimezone()
    assert result.stdout.splitlines()[0] == f"{local:%Y-%m-%d %H:%M:%S}.123  hello"
    assert len(result.stdout.splitlines()) == 2


def test_a_gateway_that_wants_a_login_says_how_to_get_one(faasflow: Run, elsewhere: HTTPServer) -> None:
    elsewhere.expect_request("/system/logs").respond_with_data("no", status=401)
    result = faasflow("logs", "shout")

    assert result.exit_code == 1
    assert "wants a login for its logs" in result.stderr
    assert "hint: Log in with: faas-cli login" in result.stderr


def test_the_log_of_one_function_that_cannot_be_had_leaves_the_others(
    faasflow: Run, at: Site, elsewhere: HTTPServer
) -> None:
    requests.post(f"{at.url}/function/chain", b"a", headers={"X-Faas-Flow-Reqid": "r-half", "Prefer": "wait=30"})
    story = requests.get(f"{at.url}/function/chain/flow/r-half?fold=true").json()
    moment = datetime.fromtimestamp(story["created"], UTC).isoformat()
    line = {"name": "chain", "timestamp": moment, "text": "request=r-half begins"}
    elsewhere.expect_request("/function/chain/flow/r-half").respond_with_json(story)

    def answer(request: Request) -> Response:
        return Response(json.dumps(line)) if request.args["name"] == "chain" else Response("gone", 500)

    elsewhere.expect_request("/system/logs").respond_with_handler(answer)
    result = faasflow("logs", "chain", "--request", "r-half")

    assert result.exit_code == 1
    assert result.stdout.endswith("  chain  request=r-half begins\n")
    assert "shout: /system/logs answered 500: gone" in result.stderr


def line(text: str) -> LogLine:
    return LogLine("f", 0.0, text, {})


def test_lines_with_the_id_are_those_of_the_request() -> None:
    found = own_lines([line("request=r-1 a"), line("request=r-10 b"), line("c"), line('{"request": "r-1"}')], "r-1")

    assert [one.text for one in found] == ["request=r-1 a", '{"request": "r-1"}']


def test_without_any_id_the_time_tells_but_lines_of_others_are_left_out() -> None:
    lines = [line("a"), line("request=r-2 b"), line('{"level":"info","request":"r-2"}'), line("a request = fine")]

    assert [one.text for one in own_lines(lines, "r-1")] == ["a", "a request = fine"]


def test_of_lines_that_name_nodes_those_of_the_node_are_shown() -> None:
    lines = [line(f"INFO flow=f request=r {rest}") for rest in ("node=a x", "node=ab a", "node=a/b y", "z")]

    assert own_lines(lines, "r", node="a") == lines[:1]
    assert own_lines(lines, "r", node="c") == lines


@pytest.mark.parametrize("form", [as_text, as_json])
@pytest.mark.parametrize(
    ("own", "other"), [("1", "2"), ("order", "order.1"), ('a"b', "a"), ("a\\b", "b"), ("ü/1 x", "x")]
)
def test_lines_that_a_flow_marked_are_told_apart_whatever_ids_are_like(
    form: Callable[[Entry], str], own: str, other: str
) -> None:
    marks = [Scope("f", own, "a", 1), Scope("f", own), Scope("f", other, "a", 1)]
    texts = [f"request={own}, attempt 1 of order {own}", "mine", f"after {own}"]
    entries = [
        Entry(time=1.0, level="INFO", logger="shop", message=text, scope=mark)
        for mark, text in zip(marks, texts, strict=True)
    ]
    lines = [line(form(entry).rstrip()) for entry in entries]

    assert own_lines(lines, own) == lines[:2]
    assert own_lines(lines, own, node="a") == lines[:1]


def test_what_says_to_whom_a_line_belongs_can_be_left_out() -> None:
    said = without_fields('INFO flow=f request="r 1" node=a/b@c attempt=2 shop: sold request=3 to node=x')

    assert said == "INFO shop: sold request=3 to node=x"
    assert without_fields("GET /x?request=5&node=3 ok") == "GET /x?request=5&node=3 ok"


@pytest.mark.parametrize("status", [404, 501])
@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [
        ("shuot", "There is no function 'shuot' on the gateway", "Did you mean 'shout'?"),
        ("x", "There is no function 'x' on the gateway", "`faas-cli list`"),
        ("shout", "gives no logs of function 'shout'.", "Read them where it runs"),
    ],
)
def test_logs_that_a_gateway_does_not_have_are_an_error_that_says_why(
    faasflow: Run, httpserver: HTTPServer, status: int, name: str, reason: str, hint: str
) -> None:
    httpserver.expect_request("/system/logs").respond_with_data("", status)
    httpserver.expect_request("/system/functions").respond_with_json([{"name": "shout"}, {"name": "chain"}])

    result = faasflow("logs", name, "--gateway", httpserver.url_for(""))

    assert result.exit_code == 1
    assert reason in result.stderr
    assert hint in result.stderr


def test_an_unknown_function_is_looked_for_in_its_namespace(faasflow: Run, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/system/logs").respond_with_data("", 501)
    httpserver.expect_request("/system/functions", query_string="namespace=prod").respond_with_json([{"name": "a"}])

    result = faasflow("logs", "b.prod", "--gateway", httpserver.url_for(""))

    assert "There is no function 'b.prod' on the gateway" in result.stderr
