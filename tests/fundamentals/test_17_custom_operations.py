"""17. Operations of your own kind. `node.add(operation)` takes any object with a `name` and `run(data, context)`: a
team writes "publish to our broker" once, and every flow adds it like `apply` or `modify`.
"""

from __future__ import annotations

from faasflow import Retry
from faasflow.testing import FlowTester, RequestState

SENT: dict[str, dict] = {}
BROKEN: list[str] = []


class Publish:
    """Publishes data to a topic, once for each idempotency key."""

    def __init__(self, topic: str) -> None:
        self.name = f"publish {topic}"
        self.properties = {"topic": topic}

    def run(self, data: dict, context) -> dict:
        if BROKEN:
            raise ConnectionError(BROKEN.pop())
        SENT[context.idempotency_key] = data
        return {**data, "attempt": context.attempt}


class PublishOnce(Publish):
    may_retry = False


class PublishLater(Publish):
    async def run(self, data: dict, context) -> dict:
        return super().run(data, context)


KINDS = {kind.__name__: kind for kind in (Publish, PublishOnce, PublishLater)}


def publishing(flow, context):
    operation = KINDS[context.query.get("kind", "Publish")]("orders")
    flow.dag().node("send", retry=Retry(delay=0)).add(operation).modify(lambda data: data)


def test_a_custom_operation_is_given_data_and_context():
    assert FlowTester(publishing).run(b'{"id": 1}').result == b'{"id":1,"attempt":1}'
    assert {"id": 1} in SENT.values()


def test_a_custom_operation_may_be_async():
    assert FlowTester(publishing).run(b"{}", query={"kind": "PublishLater"}).result == b'{"attempt":1}'


def test_a_custom_operation_is_retried_under_the_policy_of_its_node():
    BROKEN.append("the broker is away")

    assert FlowTester(publishing).run(b"{}").result == b'{"attempt":2}'


def test_a_custom_operation_that_may_not_be_retried_fails_its_node():
    BROKEN.append("the broker is away")

    outcome = FlowTester(publishing).run(b"{}", query={"kind": "PublishOnce"})

    assert outcome.state is RequestState.FAILED
    assert outcome.failure.operation == "publish orders"
    assert outcome.error == "send: ConnectionError: the broker is away"
