"""14. Requests and their ids. Whoever starts a request may name it; starting it again with the same id and body is
answered with what became of the first, so that a start can be repeated without fear. A start does not wait for the
end: it can be waited for, or looked at later.
"""

from __future__ import annotations

import pytest

from faasflow.errors import RequestConflictError, RequestNotFoundError
from faasflow.testing import RequestState


def order(flow, context):
    dag = flow.dag()
    dag.node("book").apply("book")
    dag.node("confirm").modify(confirm)
    dag.edge("book", "confirm")


def book(body: bytes) -> bytes:
    return b"room 12 for " + body


def confirm(data: str) -> str:
    return f"confirmed: {data}"


def test_a_request_gets_an_id_and_ids_sort_by_time(run_flow):
    flow = run_flow(order, functions={"book": book})

    first, second = flow.run(b"Ada").request_id, flow.run(b"Alan").request_id

    assert len(first) == len(second) == 20
    assert first < second


def test_a_start_can_be_repeated_with_its_id(run_flow):
    flow = run_flow(order, functions={"book": book})

    first = flow.run(b"Ada", request_id="order/17")
    again = flow.run(b"Ada", request_id="order/17")

    assert again == first
    assert len(flow.calls("book")) == 1


def test_the_same_id_with_another_body_is_refused(run_flow):
    flow = run_flow(order, functions={"book": book})
    flow.run(b"Ada", request_id="order/17")

    with pytest.raises(RequestConflictError, match="'order/17' was started with another body"):
        flow.run(b"Alan", request_id="order/17")


def test_a_request_can_be_waited_for_and_looked_at(run_flow):
    flow = run_flow(order, functions={"book": book})

    request_id = flow.start(b"Ada")
    outcome = flow.wait(request_id)

    assert outcome.result == b"confirmed: room 12 for Ada"
    assert flow.state(request_id) is RequestState.FINISHED


def test_an_unknown_id_is_told(run_flow):
    with pytest.raises(RequestNotFoundError, match="'order/17' is not known"):
        run_flow(order).state("order/17")
