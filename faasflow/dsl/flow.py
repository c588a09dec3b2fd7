"""What `define` is given: the flow that is being written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faasflow import graph
from faasflow.dsl.build import build
from faasflow.dsl.callables import Given, check_code
from faasflow.dsl.dag import Dag
from faasflow.dsl.node import Node
from faasflow.dsl.options import check
from faasflow.dsl.place import Place
from faasflow.errors import DefinitionError
from faasflow.graph.policy import Retry

SYNC_NODE = "sync"


class Flow:
    """What `define` is given: the flow to be written."""

    def __init__(self) -> None:
        self._root = Dag._at(Place(is_root=True))
        self._on_failure: graph.Callback | None = None
        self._finally: graph.Callback | None = None
        self._retry: Retry | None = None
        self._timeout: float | None = None

    def sync_node(
        self, *, retry: Retry | None = None, timeout: float | None = None, at_most_once: bool | None = None
    ) -> Node:
        """The one node of a synchronous flow: the caller waits and is answered with its result. The options are those
        of `Dag.node`."""
        return self._root.node(SYNC_NODE, retry=retry, timeout=timeout, at_most_once=at_most_once)

    def dag(self) -> Dag:
        """The flow's DAG."""
        return self._root

    def set_dag(self, dag: Dag) -> None:
        """Make `dag` the flow's DAG; a DAG taken from `dag()` before no longer counts."""
        if not isinstance(dag, Dag):
            raise DefinitionError(f"set_dag() got {type(dag).__name__}. Give it a Dag.")
        if dag._place.outer is not None:
            raise dag._place.error("set_dag() got a DAG that is part of another. Make one with Dag().")
        self._root._place.is_root = False
        dag._place.is_root = True
        self._root = dag

    def retry(self, policy: Retry) -> None:
        """Run a failed node again as `policy` says, where neither the node nor the failed call has a policy of its own.
        Nodes with `at_most_once` are not run again."""
        check(self._root._place, "retry", policy, "the flow")
        self._retry = policy

    def timeout(self, seconds: float) -> None:
        """Fail a request that has not ended so many seconds after its start."""
        check(self._root._place, "timeout", seconds, "the flow")
        self._timeout = seconds

    def on_failure(self, handler: Callable[[Exception], Any]) -> None:
        """Call `handler(error)` once when the flow fails; what it returns is the body of the failure answer and of the
        callback. The flow has failed all the same."""
        check_code(self._root._place, handler, "handler of on_failure()", Given.OBJECT)
        self._on_failure = handler

    def finally_(self, handler: Callable[[str], Any]) -> None:
        """Call `handler(state)` once at the end, with "success", "failure" or "stopped"."""
        check_code(self._root._place, handler, "handler of finally_()", Given.OBJECT)
        self._finally = handler

    def build(self) -> graph.Definition:
        """The finished graph; `DefinitionError` for what only the whole can show."""
        root = build(self._root, "0")
        return graph.Definition(root, self._on_failure, self._finally, self._retry, self._timeout)
