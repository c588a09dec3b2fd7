"""Callables for flows that are only built, and counting what building costs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from faasflow import Dag, Flow
from faasflow.graph import Definition


def work(data: bytes) -> bytes:
    return data


def join(results: dict[str, bytes]) -> bytes:
    return b"".join(results.values())


def split(data: bytes) -> dict[str, bytes]:
    return {"one": data}


def choose(data: bytes) -> list[str]:
    return ["a"]


def handle(error: Exception) -> bytes:
    return b""


def built(write: Callable[[Dag], Any]) -> Definition:
    """The definition of a flow whose DAG `write` fills."""
    flow = Flow()
    write(flow.dag())
    return flow.build()


def working(*ids: str) -> Dag:
    """A free DAG: a chain of nodes that do something."""
    dag = Dag()
    for id in ids:
        dag.node(id).modify(work)
    for source, target in itertools.pairwise(ids):
        dag.edge(source, target)
    return dag


def calls_of(code: Callable[[], Any]) -> int:
    """How many function calls `code` makes: its work, counted the same on every machine."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        code()
    finally:
        sys.setprofile(None)
    return count
