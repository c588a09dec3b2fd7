"""The nodes of a flow that is being written."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Unpack

from faasflow import graph
from faasflow.dsl.callables import check_code
from faasflow.dsl.custom import CustomOperation, custom_operation
from faasflow.dsl.options import CallOptions, NodeOptions, name_of, operation, shown
from faasflow.dsl.place import Place

if TYPE_CHECKING:
    from faasflow.dsl.dag import Body


class Node:
    """A step of a flow. Its operations run in order in one process; the result of one is the input of the next."""

    def __init__(self, id: str, index: int, place: Place, where: str) -> None:
        self.id = id
        self._index = index
        self._place = place
        self._where = where
        self._operations: list[graph.Operation] = []
        self._options = NodeOptions()
        self._body: Body | None = None

    def apply(self, function: str, **options: Unpack[CallOptions]) -> Node:
        """Call the OpenFaaS function `function` (or `function.namespace`) through the gateway; its answer is the
        result. `CallOptions` says what the options mean."""
        self._place.check_text(function, f"apply() of node {self.id!r}", "a function name")
        return self._call(graph.OperationKind.FUNCTION, function, options, "apply()")

    def request(self, url: str, **options: Unpack[CallOptions]) -> Node:
        """Call a URL, with the same options as `apply`."""
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise self._place.error(
                f"request() of node {self.id!r} got {url!r}. Give a URL that starts with http:// or https://."
            )
        return self._call(graph.OperationKind.REQUEST, url, options, "request()")

    def modify(self, code: graph.Callback) -> Node:
        """Run code of the handler itself: `code(data)` returns the new data."""
        check_code(self._place, code, f"modify() of node {self.id!r}")
        return self._append(graph.Operation(graph.OperationKind.MODIFIER, name_of(code), code=code))

    def add(self, operation: CustomOperation) -> Node:
        """Run an operation of your own kind: `operation.run(data, context)` returns the new data. `CustomOperation`
        says what it has to be."""
        return self._append(custom_operation(self._place, self.id, operation))

    def _call(self, kind: graph.OperationKind, name: str, options: CallOptions, call: str) -> Node:
        return self._append(operation(self._place, self.id, kind, name, options, call))

    def _append(self, operation: graph.Operation) -> Node:
        if self._body is not None:
            raise self._place.error(
                f"Node {self.id!r} stands for {self._body.noun} and cannot run {operation.name!r} as well. "
                "Put the operation into a node of its own."
            )
        operations = [*self._operations, operation]
        self._check_once(self._options, operations)
        self._operations = operations
        return self

    def _give(self, options: NodeOptions) -> None:
        """Add options to those the node has."""
        options.check(self._place, self.id)
        options = self._options.and_also(options, self._place, self.id)
        self._check_once(options, self._operations)
        if self._body is not None:
            self._check_body(options, self._body)
        self._options = options

    def _stand_for(self, body: Body, *, aggregator: graph.Callback | None = None) -> None:
        self._check_body(self._options, body)
        self._give(NodeOptions(aggregator=aggregator))
        self._body = body

    def _check_once(self, options: NodeOptions, operations: list[graph.Operation]) -> None:
        """Refuse to try again what may run at most once."""
        if not options.at_most_once:
            return
        policies = [("the node", options.retry), *((repr(one.name), one.retry) for one in operations)]
        for what, policy in policies:
            if policy is not None:
                raise self._place.error(
                    f"Node {self.id!r} has at_most_once=True, but {shown('retry', policy)} for {what}. "
                    "What may run at most once is never tried again; remove one of the two."
                )

    def _check_body(self, options: NodeOptions, body: Body) -> None:
        """Refuse options that have no meaning where a node has no operations of its own."""
        for option, value in options.given():
            if option in body.refuses and value not in (False, "stop"):
                raise self._place.error(
                    f"Node {self.id!r} stands for {body.noun} and cannot have {shown(option, value)}. "
                    f"{body.refuses[option]}"
                )

    def _inside(self, option: str = "") -> Place:
        """The place of a DAG that this node stands for."""
        return Place(self._place, self.id + (f"={option}" if option else ""), self._where)

    def _copy(self, place: Place) -> Node:
        node = copy(self)
        node._place = place
        node._operations = list(self._operations)
        node._body = self._body.copy(node) if self._body else None
        return node
