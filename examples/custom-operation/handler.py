"""An operation of our own among others: an order is written, published by `Publish`, and confirmed."""

from faasflow import Retry

from .outbox import Publish


def define(flow, context):
    dag = flow.dag()
    dag.node("order").modify(order)
    dag.node("publish", retry=Retry(attempts=5)).add(Publish("orders")).modify(confirm)
    dag.edge("order", "publish")


def order(item: str) -> str:
    return f"order of {item}"


def confirm(text: str) -> str:
    return f"published: {text}"
