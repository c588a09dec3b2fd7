"""Dead letters over HTTP: listed, and made to go on."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import Client, deliver_all, segment, signed


class Shop:
    """A flow of which the second node fails as long as `is_broken`."""

    def __init__(self) -> None:
        self.is_broken = True
        self.tester = FlowTester(self.define)

    def define(self, flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("check").modify(lambda data: data + b" checked")
        dag.node("ship").modify(self.ship)
        dag.edge("check", "ship")

    def ship(self, data: bytes) -> bytes:
        if self.is_broken:
            raise ValueError("the van is out")
        return data + b", shipped"


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def client(serve: Serve, shop: Shop) -> Client:
    return serve(shop.tester)


def fail(shop: Shop, client: Client, *ids: str) -> None:
    for id in ids:
        client.start(b"tea", id=id)
        deliver_all(shop.tester, client)
        shop.tester.clock.sleep(1)


@pytest.mark.parametrize("id", ["r1", "a/b", "a/retry", "..", "dead%2Dletters", "retry", "tick"])
def test_a_failed_request_goes_on_from_the_failed_node(shop: Shop, client: Client, id: str) -> None:
    fail(shop, client, id)
    shop.is_broken = False
    reply = client.post(f"/flow/{segment(id)}/retry")
    deliver_all(shop.tester, client)

    assert (reply.status, reply.body.decode()) == (200, f"Request {id} is queued again")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get(f"/flow/{segment(id)}/result").body == b"tea checked, shipped"


def test_a_body_is_the_new_input_of_the_node(shop: Shop, client: Client) -> None:
    fail(shop, client, "r1")
    shop.is_broken = False
    client.post("/flow/r1/retry", b"coffee")
    deliver_all(shop.tester, client)

    assert client.get("/flow/r1/result").body == b"coffee, shipped"


def test_a_node_may_be_named_to_go_on_from(shop: Shop, client: Client) -> None:
    fail(shop, client, "r1")
    shop.is_broken = False
    reply = client.post("/flow/r1/retry?node=check", b"coffee")
    deliver_all(shop.tester, client)

    assert reply.status == 200
    assert client.get("/flow/r1/result").body == b"coffee checked, shipped"


def test_what_cannot_be_retried_is_refused(shop: Shop, client: Client) -> None:
    fail(shop, client, "r1")
    shop.is_broken = False
    client.start(b"tea", id="fine")
    unknown, node, running = (
        client.post("/flow/nobody/retry"),
        client.post("/flow/r1/retry?node=pack"),
        client.post("/flow/fine/retry"),
    )

    assert [reply.status for reply in (unknown, node, running)] == [404, 400, 409]
    assert [reply.json["request_id"] for reply in (unknown, node, running)] == ["nobody", "r1", "fine"]
    assert "pack" in node.json["error"]
    assert "RUNNING" in running.json["error"]
    assert client.get("/flow/r1/retry").status == 405


def test_dead_letters_are_listed_the_newest_first_page_by_page(shop: Shop, client: Client) -> None:
    fail(shop, client, "r0", "r1", "r2")
    first = client.get("/flow/dead-letters?limit=2").json
    rest = client.get(f"/flow/dead-letters?after={first['dead_letters'][-1]['cursor']}").json

    assert first["flow"] == "flow"
    assert [row["request_id"] for row in first["dead_letters"] + rest["dead_letters"]] == ["r2", "r1", "r0"]
    row = first["dead_letters"][0]
    assert (row["node"], row["error_type"], row["message"]) == ("ship", "ValueError", "the van is out")


def test_what_was_retried_is_no_dead_letter(shop: Shop, client: Client) -> None:
    fail(shop, client, "r1")
    client.post("/flow/r1/retry")

    assert client.get("/flow/dead-letters").json["dead_letters"] == []


def test_requests_are_listed_by_state(shop: Shop, client: Client) -> None:
    fail(shop, client, "r1")
    client.start(b"tea", id="r2")

    def listed(state: str) -> list[str]:
        return [row["request_id"] for row in client.get(f"/flow?state={state}").json["requests"]]

    assert [listed(state) for state in ("FAILED", "failed", "RUNNING", "STOPPED", "")] == [
        ["r1"],
        ["r1"],
        ["r2"],
        [],
        ["r2", "r1"],
    ]


def test_a_state_that_is_none_is_refused(client: Client) -> None:
    reply = client.get("/flow?state=BROKEN")

    assert (reply.status, "RUNNING, PAUSED, FINISHED, FAILED, STOPPED" in reply.json["error"]) == (400, True)


def test_a_request_that_no_path_could_lead_to_is_not_started(shop: Shop, client: Client) -> None:
    reply = client.start(b"tea", id="dead-letters")

    assert (reply.status, reply.json["request_id"]) == (400, "dead-letters")
    assert "the name of a route" in reply.json["error"]
    assert client.get("/flow").json["requests"] == []


def test_a_retry_has_to_be_signed_where_callers_sign(serve: Serve, shop: Shop) -> None:
    fail(shop, serve(shop.tester), "r1")
    client = serve(shop.tester, authenticate_request=True)
    unsigned = client.post("/flow/r1/retry", b"coffee")
    right = client.post("/flow/r1/retry", b"coffee", signed("POST", "/flow/r1/retry", b"coffee"))

    assert (unsigned.status, right.status) == (401, 200)
