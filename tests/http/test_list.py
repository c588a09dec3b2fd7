"""`GET /flow`: the requests of a flow by state and time, page by page, at a cost that is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest

from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester
from faasflow.testing.counting import CountingStore
from tests.http.conftest import Serve
from tests.http.support import Client, deliver_all

START = 1_700_000_000.0


class Requests:
    """Requests r0, r1, … of which each was created 100 seconds after the one before; every second one has failed."""

    def __init__(self) -> None:
        self.tester = FlowTester(define)
        self.created: list[float] = []

    def start(self, count: int) -> None:
        for number in range(count):
            self.tester.engine.start(b"" if number % 2 else b"x", request_id=f"r{number}")
            if number % 2:
                self.tester.drain()
            self.tester.transport.pending.clear()
            rows = self.tester.engine.requests(limit=1).rows
            self.created.append(float(str(rows[0]["created"])))
            self.tester.clock.advance(100)


def define(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("first").modify(lambda data: data)
    dag.node("second").modify(lambda data: data or 1 / 0)
    dag.edge("first", "second")


@pytest.fixture
def stored() -> Requests:
    return Requests()


@pytest.fixture
def client(serve: Serve, stored: Requests) -> Client:
    stored.start(6)
    return serve(stored.tester)


def ids(client: Client, query: str = "") -> list[str]:
    reply = client.get(f"/flow?{query}")
    assert reply.status == 200, reply.body
    return [row["request_id"] for row in reply.json["requests"]]


def pages(client: Client, query: str) -> Iterator[list[str]]:
    after = ""
    while True:
        page = client.get(f"/flow?{query}&after={quote(after, safe='')}").json
        yield [row["request_id"] for row in page["requests"]]
        if page["next"] is None:
            return
        after = page["next"]


def test_pages_follow_each_other_to_the_last_one(client: Client) -> None:
    assert list(pages(client, "limit=2")) == [["r5", "r4"], ["r3", "r2"], ["r1", "r0"]]
    assert list(pages(client, "limit=4")) == [["r5", "r4", "r3", "r2"], ["r1", "r0"]]
    assert list(pages(client, "limit=6")) == [["r5", "r4", "r3", "r2", "r1", "r0"]]


def test_a_row_tells_where_and_why_its_request_failed(client: Client) -> None:
    failed, running = client.get("/flow?limit=2").json["requests"]

    assert (failed["state"], failed["node"], failed["error_type"]) == ("FAILED", "second", "ZeroDivisionError")
    assert (running["state"], running["node"], running["error_type"]) == ("RUNNING", None, None)
    assert failed["created"] < failed["ended"]
    assert running["ended"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=RUNNING", ["r4", "r2", "r0"]),
        ("state=FAILED", ["r5", "r3", "r1"]),
        ("state=failed,Running", ["r5", "r4", "r3", "r2", "r1", "r0"]),
        ("state=FAILED&state=STOPPED", ["r5", "r3", "r1"]),
        ("state=PAUSED, STOPPED", []),
        ("state=", ["r5", "r4", "r3", "r2", "r1", "r0"]),
    ],
)
def test_requests_are_listed_by_one_state_or_several(client: Client, query: str, expected: list[str]) -> None:
    assert ids(client, query.replace(" ", "%20")) == expected


def test_requests_are_listed_by_when_they_were_created(client: Client, stored: Requests) -> None:
    at = [repr(created) for created in stored.created]
    middle = f"{stored.created[2] - 50:.1f}"

    assert ids(client, f"since={middle}") == ["r5", "r4", "r3", "r2"]
    assert ids(client, f"before={middle}") == ["r1", "r0"]
    assert ids(client, f"since={at[1]}&before={at[4]}") == ["r3", "r2", "r1"], "from then on, and earlier than that"
    assert ids(client, f"since={at[1]}&before={at[4]}&state=FAILED") == ["r3", "r1"]
    assert list(pages(client, f"since={at[1]}&before={at[4]}&limit=2")) == [["r3", "r2"], ["r1"]]
    assert ids(client, f"since={at[4]}&before={at[1]}") == []
    assert ids(client, "since=0") == ["r5", "r4", "r3", "r2", "r1", "r0"]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
@pytest.mark.parametrize("is_escaped", [True, False])
def test_a_time_may_be_in_rfc_3339(client: Client, stored: Requests, zone: timezone, is_escaped: bool) -> None:
    text = datetime.fromtimestamp(stored.created[2] - 50, zone).isoformat(timespec="milliseconds")

    assert ids(client, "since=" + (quote(text, safe="") if is_escaped else text)) == ["r5", "r4", "r3", "r2"]
    assert ids(client, "before=2001-02-03T04:05:06Z") == []


@pytest.mark.parametrize("name", ["since", "before"])
@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00", "-1", "nan", "inf", "1e9", "²"]
)
def test_a_time_that_is_none_is_refused_by_name(client: Client, name: str, text: str) -> None:
    reply = client.get(f"/flow?{name}={quote(text)}")

    assert (reply.status, f"{name}='{text}'" in reply.json["error"]) == (400, True)
    assert "2026-01-31T12:00:00Z" in reply.json["hint"]


def test_a_state_that_is_none_is_refused_among_others(client: Client) -> None:
    reply = client.get("/flow?state=RUNNING,BROKEN")

    assert (reply.status, "'BROKEN' is none. Use one of RUNNING" in reply.json["error"]) == (400, True)


def many(count: int) -> tuple[FlowTester, CountingStore]:
    """A flow with this many running requests, of which only the first is paused."""
    store = CountingStore(MemoryStateStore())
    tester = FlowTester(define, state=store)
    for number in range(count):
        tester.engine.start(b"x", request_id=f"r{number}")
        tester.transport.pending.clear()
    tester.engine.pause("r0")
    return tester, store


def test_a_state_that_few_are_in_is_looked_for_a_thousand_requests_at_a_time(serve: Serve) -> None:
    tester, _ = many(2100)

    assert list(pages(serve(tester), "state=PAUSED&limit=10")) == [[], [], ["r0"]]


def test_what_lies_outside_of_the_times_is_not_read(serve: Serve) -> None:
    tester, store = many(500)
    times = [float(str(row["created"])) for row in tester.engine.requests(limit=500).rows]
    before, since = times[200], times[205]
    store.reset()
    page = serve(tester).get(f"/flow?since={since!r}&before={before!r}&limit=6").json

    assert [row["request_id"] for row in page["requests"]] == ["r298", "r297", "r296", "r295", "r294"]
    assert page["next"] is None
    assert (store.reads, store.writes) == (2, 0), "a part of the list, and the requests that it names"


def test_a_request_that_is_deleted_between_two_pages_leaves_no_gap(serve: Serve, stored: Requests) -> None:
    stored.start(6)
    client = serve(stored.tester)
    first = client.get("/flow?limit=2").json
    stored.tester.engine.remove("r5")
    second = client.get(f"/flow?limit=2&after={quote(first['next'])}").json

    assert [row["request_id"] for row in first["requests"] + second["requests"]] == ["r5", "r4", "r3", "r2"]


def test_what_ends_while_it_is_paged_through_is_seen_once(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    for number in range(4):
        client.start(b"x", id=f"r{number}")
        chain.clock.advance(1)
    first = client.get("/flow?limit=2").json
    deliver_all(chain, client)
    second = client.get(f"/flow?limit=2&after={quote(first['next'])}").json

    assert [(row["request_id"], row["state"]) for row in second["requests"]] == [("r1", "FINISHED"), ("r0", "FINISHED")]
