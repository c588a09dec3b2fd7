"""`faasflow unreadable`: what flows cannot read is listed, and removed by name."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result
from pytest_httpserver import HTTPServer

Run = Callable[..., Result]
ROWS = [
    {"key": "$unreadable/$timers/1/r1", "request_id": "r1", "why": "The record cannot be read:\nit is newer."},
    {"key": "$unreadable/$timers/2/x", "request_id": "", "why": "It is no JSON."},
]


def answering(server: HTTPServer, **flows: list[dict[str, str]]) -> None:
    functions = [{"name": name, "labels": {"faas-flow": "1"}} for name in flows]
    server.expect_request("/system/functions").respond_with_json(functions)
    for name, rows in flows.items():
        answer = {"flow": name, "unreadable": rows}
        server.expect_request(f"/function/{name}/flow/unreadable", method="GET").respond_with_json(answer)


def test_what_a_flow_cannot_read_is_listed_with_the_reason(faasflow: Run, elsewhere: HTTPServer) -> None:
    answering(elsewhere, orders=ROWS)
    result = faasflow("unreadable", "orders")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Name                     Why",
        "r1                       The record cannot be read: it is newer.",
        "$unreadable/$timers/2/x  It is no JSON.",
    ]


def test_without_a_flow_all_are_asked(faasflow: Run, elsewhere: HTTPServer) -> None:
    answering(elsewhere, orders=ROWS[:1], greet=[])
    table, as_json = faasflow("unreadable"), faasflow("unreadable", "--json")

    assert table.stdout.splitlines()[1].split()[:2] == ["orders", "r1"]
    assert json.loads(as_json.stdout) == [{"flow": "orders", **ROWS[0]}]


def test_nothing_to_list_is_said_and_an_empty_list_in_json(faasflow: Run, elsewhere: HTTPServer) -> None:
    answering(elsewhere, orders=[])

    assert faasflow("unreadable", "orders").stderr == "Everything can be read.\n"
    assert json.loads(faasflow("unreadable", "orders", "--json").stdout) == []


def test_a_flow_that_does_not_answer_is_told_beside_the_others(faasflow: Run, elsewhere: HTTPServer) -> None:
    functions = [{"name": name, "labels": {"faas-flow": "1"}} for name in ("greet", "orders")]
    elsewhere.expect_request("/system/functions").respond_with_json(functions)
    elsewhere.expect_request("/function/greet/flow/unreadable").respond_with_json({"error": "Consul is away."}, 503)
    elsewhere.expect_request("/function/orders/flow/unreadable").respond_with_json({"flow": "", "unreadable": ROWS})
    result = faasflow("unreadable")

    assert result.exit_code == 1
    assert "r1" in result.stdout
    assert "greet: " in result.stderr
    assert "Consul is away." in result.stderr


def test_one_is_removed_by_its_name(faasflow: Run, elsewhere: HTTPServer) -> None:
    elsewhere.expect_request(
        "/function/orders/flow/unreadable", method="POST", query_string={"remove": "$unreadable/$timers/2/x"}
    ).respond_with_data("Successfully removed")
    result = faasflow("unreadable", "orders", "--remove", "$unreadable/$timers/2/x")

    assert (result.exit_code, result.stderr) == (0, "Successfully removed $unreadable/$timers/2/x\n")
    assert faasflow("unreadable", "--remove", "r1").exit_code == 2
