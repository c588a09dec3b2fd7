"""Timeouts that do not fit together are told before they cost a delivery."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow import Dag
from faasflow.config import Settings
from faasflow.engine.context import Context
from faasflow.graph import Definition
from faasflow.runtime import definer
from faasflow.runtime.timeouts import timeout_warnings


def settings(**environ: str) -> Settings:
    return Settings.from_environment({"validate_request": "false", "fprocess": "python index.py"} | environ)


FITTING = {"exec_timeout": "60s", "read_timeout": "65s", "write_timeout": "65s"}


def defined(define: Any) -> Definition:
    return definer(define)(Context("flow", "", ""))


def test_the_timeouts_of_the_template_fit_together() -> None:
    assert timeout_warnings(settings(**FITTING)) == []


def test_without_anything_in_front_there_is_nothing_to_fit() -> None:
    assert timeout_warnings(settings(fprocess="", call_timeout="10m")) == []


def test_a_gateway_that_ends_calls_cuts_no_connections() -> None:
    assert timeout_warnings(settings(fprocess="", exec_timeout="60s")) == []


@pytest.mark.parametrize("name", ["read_timeout", "write_timeout"])
def test_a_connection_that_is_cut_before_the_call_ends_is_told_with_what_to_raise(name: str) -> None:
    [warning] = timeout_warnings(settings(**FITTING | {name: "30s"}))

    assert warning == (
        f"{name} (30 s) cuts a delivery before exec_timeout (60 s) ends it. Raise {name} to more than 60 s."
    )


def test_calls_that_may_take_longer_than_their_delivery_are_told_with_what_to_raise() -> None:
    [warning] = timeout_warnings(settings(**FITTING, call_timeout="2m"))

    assert warning.startswith("call_timeout (120 s) is longer than exec_timeout (60 s)")
    assert "Raise exec_timeout to more than 120 s, and read_timeout and write_timeout above it." in warning


def test_a_delivery_without_end_is_cut_by_the_connection() -> None:
    warnings = timeout_warnings(settings(**FITTING | {"exec_timeout": "0"}))

    assert [warning.partition(" ")[0] for warning in warnings] == ["read_timeout", "write_timeout"]


def test_a_timeout_in_the_flow_itself_is_told_by_node_and_operation() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("quick").apply("func1", timeout=5)
        inner = Dag()
        inner.node("slow").apply("func2", timeout=90).modify(bytes.upper)
        dag.sub_dag("inside", inner)
        dag.edge("quick", "inside")

    [warning] = timeout_warnings(settings(**FITTING), defined(define))

    assert warning.startswith("The timeout of 'func2' in node 'slow' (90 s) is longer than exec_timeout (60 s)")
