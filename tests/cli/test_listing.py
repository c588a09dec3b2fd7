"""`faasflow list FLOW`: the requests that are asked for, page by page, as a table for people and JSON for machines."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.cli.support import Terminal

Run = Callable[..., Result]


class Flow:
    """A gateway with a flow of 450 requests, the newest first, that remembers what it was asked for."""

    def __init__(self, server: HTTPServer) -> None:
        now = time.time()
        self.url = server.url_for("").rstrip("/")
        self.asked: list[dict[str, str]] = []
        self.rows = [row(f"r-{450 - number}", created=now - number) for number in range(450)]
        server.expect_request("/function/orders/flow").respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        self.asked.append(request.args.to_dict())
        start, size = int(request.args.get("after") or 0), int(request.args["limit"])
        page = self.rows[start : start + size]
        following = str(start + size) if start + size < len(self.rows) else None
        return Response(json.dumps({"flow": "orders", "requests": page, "next": following}))


def row(id: str, *, created: float = 0.0, **others: Any) -> dict[str, Any]:
    return {
        "request_id": id,
        "state": "FINISHED",
        "created": created,
        "ended": created + 0.25,
        "node": None,
        "error_type": None,
    } | others


@pytest.fixture
def orders(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Flow:
    flow = Flow(httpserver)
    monkeypatch.setenv("OPENFAAS_URL", flow.url)
    return flow


def test_as_many_as_asked_for_are_listed(faasflow: Run, orders: Flow) -> None:
    usual, few, many = (
        json.loads(faasflow("list", "orders", "--json", *options).stdout)
        for options in ([], ["--limit", "3"], ["--limit", "430"])
    )

    assert (len(usual), [row["request_id"] for row in few], len(many)) == (20, ["r-450", "r-449", "r-448"], 430)
    assert [asked["limit"] for asked in orders.asked] == ["20", "3", "200", "200", "30"]


def test_all_are_listed_page_by_page_each_once(faasflow: Run, orders: Flow) -> None:
    result = faasflow("list", "orders", "--all")

    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [f"r-{450 - n}" for n in range(450)]
    assert [asked.get("after", "") for asked in orders.asked] == ["", "200", "400"]


def test_a_page_that_is_empty_is_not_the_end(faasflow: Run, httpserver: HTTPServer) -> None:
    answers = iter(
        [{"requests": [], "next": "a"}, {"requests": [row("r-1")], "next": "b"}, {"requests": [], "next": None}]
    )
    httpserver.expect_request("/function/orders/flow").respond_with_handler(
        lambda _: Response(json.dumps(next(answers)))
    )
    result = faasflow("list", "orders", "--state", "PAUSED", "--json", "--gateway", httpserver.url_for(""))

    assert [row["request_id"] for row in json.loads(result.stdout)] == ["r-1"]


def test_the_flow_is_told_what_is_asked_for(faasflow: Run, orders: Flow) -> None:
    now = time.time()
    faasflow(
        "list", "orders", "--state", "failed", "--state", "STOPPED", "--since", "2h", "--before", "1d", "--limit", "5"
    )

    [asked] = orders.asked
    assert (asked["state"], asked["limit"]) == ("FAILED,STOPPED", "5")
    assert float(asked["since"]) == pytest.approx(now - 7200, abs=30)
    assert float(asked["before"]) == pytest.approx(now - 86400, abs=30)


def test_a_failure_is_told_by_node_and_error(faasflow: Run, orders: Flow) -> None:
    orders.rows = [
        row("o-1", state="FAILED", node="each/a%20b@k", error_type="ValueError"),
        row("o-2", state="FAILED", node="", error_type="TimeoutError"),
        row("o-3", state="RUNNING", ended=None, created=time.time() - 130),
    ]
    result = faasflow("list", "orders")

    first, second, third = result.stdout.splitlines()[1:]
    assert re.fullmatch(r"o-1      FAILED   .{19}  250 ms    each/a b@k: ValueError", first)
    assert second.endswith("250 ms    TimeoutError")
    assert re.fullmatch(r"o-3      RUNNING  .{19}  2 m 1\d s", third)


def test_a_terminal_of_80_columns_shows_each_request_in_one_line(
    orders: Flow, terminal: Callable[..., Terminal]
) -> None:
    long = "the-order-of-somebody-with-a-long-name-" * 3 + "17"
    orders.rows = [row(long, state="FAILED", node="check-the-address-of-the-recipient", error_type="ValueError")]
    orders.rows += [row("d0h1k2m3n4p5q6r7s8t9", state="FAILED", node="ship", error_type="CallError")]
    shown = terminal("list", "orders", "--gateway", orders.url)

    assert shown.end() == 0
    assert [len(line) <= 80 for line in shown.screen] == [True, True, True]
    titles, first, second = shown.screen
    assert titles.split()[-1] == "Failure"
    assert re.match(r"the-order-of\S*…\S*17  FAILED ", first)
    assert re.search(r"check-the-a\S*…$", first)
    assert second.startswith("d0h1k2m3n4p5q6r7s8t9 ")


def test_a_pipe_is_given_all(faasflow: Run, orders: Flow) -> None:
    long = "x" * 200
    orders.rows = [row(long, state="FAILED", node="n" * 60, error_type="ValueError")]

    assert long in faasflow("list", "orders").stdout
    assert "n" * 60 + ": ValueError" in faasflow("list", "orders").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--state", "FAILED"], "choose among the requests of one FLOW. Name it."),
        (["--all"], "choose among the requests of one FLOW. Name it."),
        (["orders", "--all", "--limit", "3"], "--all and --limit exclude each other."),
        (["orders", "--state", "BROKEN"], "'BROKEN' is not one of"),
        (["orders", "--since", "soon"], "'soon' is no time"),
        (["orders", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_a_misuse_ends_with_2(faasflow: Run, orders: Flow, arguments: list[str], said: str) -> None:
    result = faasflow("list", *arguments)

    assert (result.exit_code, said in result.stderr, orders.asked) == (2, True, []), result.stderr


def test_no_requests_are_an_empty_table(faasflow: Run, orders: Flow) -> None:
    orders.rows = []

    assert faasflow("list", "orders").stdout == "Request  State  Started  Duration  Failure\n"
    assert faasflow("list", "orders", "--json").stdout == "[]\n"
