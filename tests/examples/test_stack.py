"""stack.yml and flow.yml name what is there, and every flow in them can be deployed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faasflow import graph
from faasflow.engine.context import Context
from faasflow.graph.model import OperationKind, inner_dags
from faasflow.runtime import definer
from tests.examples.support import FLOWS, ROOT, STACK, load

EXAMPLES = ROOT / "examples"


def definition(flow: str) -> graph.Definition:
    return definer(load(STACK.functions[flow].handler).define)(Context(flow, "", ""))


def functions_called(dag: graph.Dag) -> Iterator[str]:
    for node in dag.nodes.values():
        yield from (operation.name for operation in node.operations if operation.kind is OperationKind.FUNCTION)
        for _, inner in inner_dags(node):
            yield from functions_called(inner)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_is_valid_and_calls_only_functions_of_the_stack(flow: str) -> None:
    called = set(functions_called(definition(flow).root))

    assert called <= STACK.functions.keys() - set(FLOWS)


def test_every_function_of_the_stack_is_called_by_a_flow() -> None:
    called = {name for flow in FLOWS for name in functions_called(definition(flow).root)}

    assert called == STACK.functions.keys() - set(FLOWS)


def test_every_handler_of_the_examples_is_in_the_stack() -> None:
    handlers = {path.parent for path in EXAMPLES.rglob("handler.py")}

    assert {spec.handler for spec in STACK.functions.values()} == handlers


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_is_deployed_by_the_conventions(flow: str) -> None:
    spec = STACK.functions[flow]

    assert spec.handler == EXAMPLES / flow
    assert spec.image == f"faasflow/{flow}:latest"
    assert spec.labels == {"faas-flow": "1"}
    assert spec.annotations["faas-flow-desc"]
    assert spec.secrets == ("faasflow-hmac-secret",)


@pytest.mark.parametrize("flow", FLOWS)
def test_no_flow_fixes_what_the_laptop_and_a_cluster_have_each_of_their_own(flow: str) -> None:
    assert not {"gateway", "state_store", "data_store"} & STACK.functions[flow].environment.keys()


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_says_what_it_shows_and_has_a_test(flow: str) -> None:
    assert load(STACK.functions[flow].handler).__doc__
    assert (EXAMPLES / flow / "handler_test.py").is_file()
