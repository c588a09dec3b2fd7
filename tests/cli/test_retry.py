"""`faasflow dead-letters` and `faasflow retry` against a gateway: what failed is shown, chosen, and goes on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from click.testing import Result

from faasflow.cli.dead_letters import DeadLetter
from faasflow.cli.retry import Filter
from faasflow.local import Gateway, load_stack
from tests.cli.support import Project, Terminal
from tests.support import free_port, wait_until

Run = Callable[..., Result]

SHOP = """
    from pathlib import Path

    MENDED = Path(__file__).with_name("mended")

    def define(flow, context):
        dag = flow.dag()
        dag.node("check").modify(check)
        dag.node("ship").modify(ship)
        dag.edge("check", "ship")

    def check(item: str) -> str:
        if not item:
            raise ValueError("there is nothing\\nto order")
        return item

    def ship(item: str) -> str:
        if not MENDED.exists():
            raise OSError(f"no van for {item}: " + "the road to the harbour is closed for the day, " * 3)
        return f"shipped {item}"
"""


class Shop:
    """Two equal flows on a gateway, of which requests fail in `check` without a body, else in `ship` until `mend`."""

    def __init__(self, project: Project, gateway: Gateway) -> None:
        self.url = gateway.url
        self._project = project

    def mend(self) -> None:
        for flow in ("orders", "returns"):
            (self._project.folder / flow / "mended").touch()

    def fail(self, id: str, body: str = "tea", *, flow: str = "orders") -> None:
        started = requests.post(
            f"{self.url}/function/{flow}", body.encode(), headers={"X-Faas-Flow-Reqid": id, "Connection": "close"}
        )
        assert started.status_code == 202, started.text
        self.wait_for("FAILED", id, flow=flow)

    def wait_for(self, state: str, id: str, *, flow: str = "orders") -> None:
        wait_until(lambda: self.state(id, flow=flow) == state, f"{id} is {state}")

    def state(self, id: str, *, flow: str = "orders") -> str:
        return requests.get(f"{self.url}/function/{flow}/flow/{id}/state", headers={"Connection": "close"}).text

    def result(self, id: str, *, flow: str = "orders") -> str:
        self.wait_for("FINISHED", id, flow=flow)
        return requests.get(f"{self.url}/function/{flow}/flow/{id}/result", headers={"Connection": "close"}).text


@pytest.fixture
def shop(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    project.flow("orders", SHOP)
    project.flow("returns", SHOP)
    gateway = Gateway(load_stack(project.stack), state_dir=tmp_path / "state", port=free_port())
    gateway.start()
    monkeypatch.setenv("OPENFAAS_URL", gateway.url)
    yield Shop(project, gateway)
    gateway.stop(grace=2)


def test_what_failed_is_listed_the_newest_first_with_the_reason_in_one_line(faasflow: Run, shop: Shop) -> None:
    shop.fail("o-1", "")
    shop.fail("r-1", flow="returns")
    every, one = faasflow("dead-letters"), faasflow("dead-letters", "orders")

    titles, first, second = every.stdout.splitlines()
    assert titles.split() == ["Flow", "Request", "Ended", "Node", "Error"]
    assert re.match(r"returns  r-1      .{10} \d\d:\d\d:\d\d  ship   OSError: no van for tea: the road", first)
    assert re.match(r"orders   o-1      .{19}  check  ValueError: there is nothing to order$", second)
    assert first.endswith("closed for the day,"), "what is no terminal is given all"
    assert [line.split()[0] for line in one.stdout.splitlines()] == ["Request", "o-1"]
    assert (every.exit_code, one.exit_code) == (0, 0)


def test_dead_letters_are_json_for_machines_and_as_many_as_asked_for(faasflow: Run, shop: Shop) -> None:
    for number in range(3):
        shop.fail(f"o-{number}")
    rows = json.loads(faasflow("dead-letters", "--json", "--limit", "2").stdout)

    assert [(row["flow"], row["request_id"], row["node"], row["error_type"]) for row in rows] == [
        ("orders", "o-2", "ship", "OSError"),
        ("orders", "o-1", "ship", "OSError"),
    ]
    assert abs(rows[0]["ended"] - time.time()) < 60


def test_nothing_that_failed_is_told_beside_the_answer(faasflow: Run, shop: Shop) -> None:
    result, machine = faasflow("dead-letters"), faasflow("dead-letters", "--json")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No request has failed.\n")
    assert (machine.stdout, machine.stderr) == ("[]\n", "")


def test_a_terminal_shows_of_an_error_what_fits(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    shop.fail("o-1")
    shown = terminal("dead-letters", "--gateway", shop.url)

    assert shown.end() == 0
    assert [len(line) <= 80 for line in shown.screen] == [True, True]
    assert re.search(r"ship  OSError: no van for te\w*.*…$", shown.screen[1])


def test_a_request_goes_on_without_its_flow_being_named(faasflow: Run, shop: Shop) -> None:
    shop.fail("r-1", flow="returns")
    shop.mend()
    result = faasflow("retry", "r-1")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "Request r-1 is queued again\n", "")
    assert shop.result("r-1", flow="returns") == "shipped tea"


def test_a_request_goes_on_from_another_node_with_another_input(faasflow: Run, shop: Shop, tmp_path: Path) -> None:
    shop.fail("o-1")
    shop.mend()
    (tmp_path / "input").write_text("coffee")
    first = faasflow("retry", "o-1", "--flow", "orders", "--node", "check", "--input", str(tmp_path / "input"))
    sent = shop.result("o-1")

    assert (first.exit_code, sent) == (0, "shipped coffee")


def test_an_input_may_be_piped_in_but_not_be_empty(faasflow: Run, shop: Shop) -> None:
    shop.fail("o-1", "")
    shop.mend()
    empty = faasflow("retry", "o-1", "--input", "-", data=b"")
    piped = faasflow("retry", "o-1", "--input", "-", data=b"milk")

    assert (empty.exit_code, piped.exit_code) == (2, 0)
    assert "It is empty." in empty.stderr
    assert shop.result("o-1") == "shipped milk"


def test_a_dry_run_shows_what_it_would_do_and_does_nothing(faasflow: Run, shop: Shop) -> None:
    shop.fail("o-1")
    shop.fail("o-2", "")
    one = faasflow("retry", "o-1", "--dry-run")
    every = faasflow("retry", "--all", "--node", "check", "--dry-run")

    assert one.stdout.splitlines()[1].startswith("orders  o-1 ")
    assert one.stderr == "It would go on from node 'ship'.\n"
    assert [line.split()[1] for line in every.stdout.splitlines()] == ["Request", "o-2"]
    assert every.stderr == "1 would be retried.\n"
    assert (one.exit_code, every.exit_code) == (0, 0)
    assert [shop.state("o-1"), shop.state("o-2")] == ["FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("options", "retried"),
    [
        (["--all"], ["o-1", "o-2", "r-1"]),
        (["--all", "--flow", "orders"], ["o-1", "o-2"]),
        (["--all", "--node", "check"], ["o-2"]),
        (["--all", "--error", "OSError"], ["o-1", "r-1"]),
        (["--all", "--error", "KeyError"], []),
        (["--all", "--since", "1h", "--flow", "returns"], ["r-1"]),
        (["--all", "--before", "1h"], []),
    ],
)
def test_all_that_the_options_fit_go_on_the_oldest_first(
    faasflow: Run, shop: Shop, options: list[str], retried: list[str]
) -> None:
    shop.fail("o-1")
    shop.fail("o-2", "")
    shop.fail("r-1", flow="returns")
    shop.mend()
    result = faasflow("retry", *options)

    assert result.stdout.splitlines() == [f"Request {id} is queued again" for id in retried]
    assert (result.exit_code, result.stderr) == (0, f"{len(retried)} of {len(retried)} retried.\n")


def test_what_cannot_be_retried_ends_with_1_and_the_reason(faasflow: Run, shop: Shop) -> None:
    shop.fail("o-1")
    shop.mend()
    faasflow("retry", "o-1")
    shop.wait_for("FINISHED", "o-1")
    unknown, ended, dry = faasflow("retry", "o-9"), faasflow("retry", "o-1"), faasflow("retry", "o-1", "--dry-run")

    assert [result.exit_code for result in (unknown, ended, dry)] == [1, 1, 1]
    assert f"No flow of {shop.url} knows request 'o-9'." in unknown.stderr
    assert "Request 'o-1' is FINISHED and cannot be retried." in ended.stderr
    assert "Request 'o-1' of 'orders' is FINISHED." in dry.stderr


def test_a_request_that_two_flows_know_is_asked_back_for(faasflow: Run, shop: Shop) -> None:
    shop.fail("x-1")
    shop.fail("x-1", flow="returns")
    result = faasflow("retry", "x-1")

    assert result.exit_code == 2
    assert "Request 'x-1' is known to orders, returns. Say which with --flow." in result.stderr


def test_progress_is_shown_on_a_terminal_and_nothing_of_it_stays(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    shop.fail("o-1")
    shop.fail("o-2")
    shop.mend()
    shown = terminal("retry", "--all", "--gateway", shop.url)

    assert shown.end() == 0
    assert b"1 of 2 ..." in shown.output
    assert shown.screen == [
        "Request o-1 is queued again",
        "Request o-2 is queued again",
        "2 of 2 retried.",
    ]


def letter(ended: float = 100.0, *, node: str = "ship", error: str = "OSError") -> DeadLetter:
    return DeadLetter("orders", "o-1", ended, node, error, "no van", {})


def test_a_filter_takes_what_fits_each_of_its_parts() -> None:
    assert Filter().takes(letter())
    assert Filter(node="a b").takes(letter(node="a%20b"))
    assert Filter(since=100.0, before=100.0).takes(letter())
    assert not Filter(since=100.1).takes(letter())
    assert not Filter(before=99.9).takes(letter())
    assert not Filter(node="ship", error="KeyError").takes(letter())
    assert not Filter(node="check").takes(letter())
