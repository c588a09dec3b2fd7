"""Flows whose name comes with the request, as in the original."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from faasflow.config import Settings
from faasflow.runtime import Handler, build_app
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from tests.http.support import Client, contents, served, settings


def define(flow: Any, context: Any) -> None:
    flow.sync_node().modify(lambda data: context.name)


@pytest.fixture
def state() -> MemoryStateStore:
    return MemoryStateStore()


@pytest.fixture
def client(state: MemoryStateStore) -> Iterator[Client]:
    handler = Handler(define=define, override_state_store=lambda: state, override_data_store=MemoryDataStore)
    unnamed: Settings = settings(flow="")
    with served(build_app(handler, unnamed)) as client:
        yield client


@pytest.mark.parametrize("host", ["orders", "orders:8080", "orders.openfaas-fn.svc.cluster.local:8080", "Orders.x"])
def test_the_host_header_names_the_flow(client: Client, host: str) -> None:
    assert client.post("/", b"", {"Host": host}).body == b"orders"


@pytest.mark.parametrize("host", ["10.1.2.3:8080", "127.0.0.1:5000", "[::1]:5000", "", "-x", "a/b", "ü"])
def test_an_address_is_not_taken_for_a_name(client: Client, state: MemoryStateStore, host: str) -> None:
    reply = client.post("/", b"", {"Host": host.encode("latin-1")})

    assert (reply.status, "workflow_name" in reply.json["hint"]) == (500, True)
    assert contents(state) == {}


def test_flows_of_different_hosts_share_nothing(client: Client) -> None:
    client.post("/", b"", {"Host": "orders", "X-Faas-Flow-Reqid": "r1"})

    assert client.send("GET", "/flow/r1", headers={"Host": "orders"}).status == 200
    assert client.send("GET", "/flow/r1", headers={"Host": "invoices"}).status == 404


def test_a_flow_without_a_name_is_healthy_and_not_ready(client: Client) -> None:
    assert [client.get(path).status for path in ("/_/health", "/_/ready")] == [200, 503]
    assert "workflow_name" in client.get("/_/ready").json["hint"]


def test_a_configured_name_stands_above_the_host(state: MemoryStateStore) -> None:
    handler = Handler(define=define, override_state_store=lambda: state)
    with served(build_app(handler, settings(flow="configured"))) as client:
        assert client.post("/", b"", {"Host": "other"}).body == b"configured"
