"""16. Async code. Whatever code a flow names may be an `async def`: it is run to its end in an event loop that its
thread keeps. `define` itself may not: it runs at every delivery and has nothing to wait for.
"""

from __future__ import annotations

import asyncio

import pytest

from faasflow.errors import DefinitionError
from faasflow.testing import FlowTester, RequestState


async def by_name(names: list) -> list:
    await asyncio.sleep(0)
    return names


async def greet(name: str) -> str:
    first, second = await asyncio.gather(asyncio.sleep(0, "Hello"), asyncio.sleep(0, name))
    return f"{first} {second}"


async def letter(greetings: list[str]) -> list[str]:
    return greetings


async def chosen(greetings: list) -> str:
    return "many" if len(greetings) > 1 else "one"


async def joined(greetings: list) -> str:
    return ", ".join(greetings)


async def only(results: dict[str, str]) -> str:
    return "".join(results.values())


async def as_text(text: str) -> str:
    return f"{text}!"


def everything_async(flow, context):
    dag = flow.dag()
    dag.foreach_branch("each", by_name, aggregator=letter).node("greet").modify(greet)
    for case in dag.conditional_branch("size", ["one", "many"], chosen, aggregator=only).values():
        case.node("join").modify(joined)
    dag.node("end").modify(as_text)
    dag.edge("each", "size")
    dag.edge("size", "end", forwarder=as_text)


def test_all_code_of_a_flow_may_be_async(run_flow):
    assert run_flow(everything_async).run(b'["Ada", "Alan"]').result == b"Hello Ada, Hello Alan!!"


async def explain(error: Exception) -> str:
    return f"sorry: {error}"


async def break_down(data: bytes) -> bytes:
    raise RuntimeError("no way")


def failing(flow, context):
    flow.on_failure(explain)
    flow.sync_node().modify(break_down)


def test_an_async_handler_of_failures_says_what_the_answer_is(run_flow):
    outcome = run_flow(failing).run()

    assert outcome.state is RequestState.FAILED
    assert b"sorry: Node 'sync' failed: RuntimeError: no way" in outcome.result


def test_an_async_define_is_refused_with_the_way_out():
    async def define(flow, context):
        flow.sync_node().modify(greet)

    with pytest.raises(DefinitionError, match="async") as raised:
        FlowTester(define)
    assert "Write `def define(flow, context)`" in raised.value.hint
