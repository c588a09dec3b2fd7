"""8. Types. Data travels as bytes. A callable that annotates its parameter is given that type, decoded from UTF-8 or
JSON; it may return bytes, text, `None` (empty) or whatever JSON can hold, dataclasses and pydantic models included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date

import pytest
from pydantic import BaseModel, Field

from faasflow.testing import RequestState


@dataclass
class Order:
    item: str
    count: int
    day: date


class Invoice(BaseModel):
    total: int = Field(ge=0)
    paid: bool = False


def raw(data: bytes) -> bytes:
    return data[::-1]


def text(data: str) -> str:
    return data.title()


def a_dict(data: dict) -> dict:
    return {**data, "seen": True}


def a_list(data: list[int]) -> list[int]:
    return sorted(data)


def a_dataclass(order: Order) -> Order:
    return Order(order.item, order.count + 1, order.day)


def a_model(order: Order) -> Invoice:
    return Invoice(total=order.count * 2)


def from_model(invoice: Invoice) -> str:
    return f"{invoice.total} coins"


def nothing(data: bytes) -> None:
    return None


CODE = {code.__name__: code for code in (raw, text, a_dict, a_list, a_dataclass, a_model, from_model, nothing)}
ORDER = b'{"item":"tea","count":3,"day":"2026-01-31"}'


def one_callable(flow, context):
    flow.sync_node().modify(CODE[context.query.get("code", "raw")])


@pytest.mark.parametrize(
    ("code", "given", "result"),
    [
        ("raw", b"\xff\x00", b"\x00\xff"),
        ("text", "élan vital".encode(), "Élan Vital".encode()),
        ("a_dict", b'{"a": 1}', b'{"a":1,"seen":true}'),
        ("a_list", b"[3, 1, 2]", b"[1,2,3]"),
        ("a_dataclass", ORDER, b'{"item":"tea","count":4,"day":"2026-01-31"}'),
        ("a_model", ORDER, b'{"total":6,"paid":false}'),
        ("from_model", b'{"total": 6}', b"6 coins"),
        ("nothing", b"something", b""),
    ],
)
def test_a_callable_gets_what_it_asks_for_and_returns_what_it_likes(run_flow, code, given, result):
    assert run_flow(one_callable).run(given, query={"code": code}).result == result


@pytest.mark.parametrize(
    ("code", "given", "reason"),
    [
        ("a_list", b'["x"]', "Expected `int`"),
        ("a_dataclass", b"{}", "missing required field `item`"),
        ("from_model", b'{"total": -1}', "greater than or equal to 0"),
        ("text", b"\xff", "wants str"),
    ],
)
def test_data_of_another_type_fails_the_node_with_the_reason(run_flow, code, given, reason):
    outcome = run_flow(one_callable).run(given, query={"code": code})

    assert outcome.state is RequestState.FAILED
    assert outcome.failure.error_type == "DataError"
    assert reason in outcome.error


@dataclass
class Parts:
    """What `joined` asks for: its fields are the ids of the nodes before it."""

    order: Order
    invoice: Invoice


def pipeline(flow, context):
    dag = flow.dag()
    dag.node("read").modify(a_dataclass)
    dag.node("order").modify(a_dataclass)
    dag.node("invoice").modify(a_model)
    dag.node("letter", aggregator=joined)
    for part in ("order", "invoice"):
        dag.edge("read", part)
        dag.edge(part, "letter")


def joined(parts: Parts) -> str:
    return f"{parts.order.count} x {parts.order.item}: {parts.invoice.total} coins"


def test_an_aggregator_may_ask_for_a_dataclass_of_the_results(run_flow):
    assert run_flow(pipeline).run(ORDER).result == b"5 x tea: 8 coins"


def bulk(flow, context):
    branch = flow.dag().foreach_branch("each", by_item, aggregator=totals)
    branch.node("invoice").modify(a_model)


def by_item(orders: list[Order]) -> dict[str, Order]:
    return {order.item: order for order in orders}


def totals(invoices: dict[str, Invoice]) -> dict[str, int]:
    return {item: invoice.total for item, invoice in invoices.items()}


def test_an_aggregator_may_ask_for_a_dict_of_values_of_one_type(run_flow):
    orders = json.dumps([json.loads(ORDER), {"item": "milk", "count": 1, "day": "2026-02-01"}])

    assert json.loads(run_flow(bulk).run(orders.encode()).result) == {"tea": 6, "milk": 2}
