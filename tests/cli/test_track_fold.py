"""`faasflow track` of a request with a thousand nodes shows a screen, and not a thousand lines."""

from __future__ import annotations

import re
from typing import Any

import pytest

from faasflow.cli.look import Look
from faasflow.cli.track_fold import LIMIT
from faasflow.cli.track_view import overview_lines
from faasflow.naming import listed
from tests.cli.test_track_view import NARROW, WIDE, chain, node, story

COUNT = 1000


def wide(flow: Any, context: Any) -> None:
    """start → 1,000 nodes → end."""
    dag = flow.dag()
    dag.node("start").modify(bytes)
    dag.node("end", aggregator=len)
    for number in range(COUNT):
        dag.node(f"n{number}").modify(bytes)
        dag.edge("start", f"n{number}")
        dag.edge(f"n{number}", "end")


@pytest.fixture(scope="module")
def half_done() -> Any:
    done = {f"node/n{number}": node(0.5, 1.0 + number / 1000) for number in range(500)}
    return story(wide, {"node/start": node(0.0, 0.5), **done})


def test_a_thousand_nodes_are_folded_by_level_and_state(half_done: Any) -> None:
    shown = overview_lines(half_done, NARROW)

    assert [re.sub(r" {2,}", "  ", line) for line in shown[3:]] == [
        "start ✓ → { 500 nodes ✓, 500 nodes · } → end ·",
        "",
        "Node  State  Duration  Details",
        "✓ start  FINISHED  500 ms",
        "✓ 500 nodes, level 2  FINISHED  n0 to n499, 500 ms to 999 ms each",
        "· 500 nodes, level 2  WAITING  n500 to n999",
        "· end  WAITING  waits for n500, n501, n502, n503, n50…",
        "1,002 nodes in 4 lines. Each one: --all; those in a state: --state running",
    ]


@pytest.mark.parametrize("look", [NARROW, WIDE, Look(is_plain=True)])
def test_no_line_is_long_and_no_overview_high(half_done: Any, look: Look) -> None:
    for told in (half_done, story(chain(*(f"step-{number}" for number in range(COUNT))), {"node/step-0": node()})):
        shown = overview_lines(told, look)

        assert len(shown) <= LIMIT + 10
        assert max(map(len, shown)) <= 400


def test_a_long_chain_is_folded_along_its_levels() -> None:
    done = {f"node/s{number}": node() for number in range(400)}

    shown = overview_lines(story(chain(*(f"s{number}" for number in range(COUNT))), done), WIDE)

    assert any(re.search(r"✓ 400 nodes, levels 1 to 400 +FINISHED", line) for line in shown)
    assert shown[3] == "400 nodes ✓ → s400 ▸ → 599 nodes ·"


def test_what_failed_or_runs_is_not_hidden_in_a_crowd(half_done: Any) -> None:
    running = {**half_done, "graph": [dict(place) for place in half_done["graph"]]}
    for place in running["graph"][600:620]:
        place["state"] = "RUNNING"

    shown = overview_lines(running, WIDE)

    assert sum(line.startswith("▸ n") for line in shown) == 5
    assert any("15 more nodes" in line for line in shown)


def test_each_node_is_shown_when_asked_for(half_done: Any) -> None:
    every = overview_lines(half_done, WIDE, is_folded=False)
    finished = overview_lines(half_done, WIDE, unfolded=["FINISHED"])

    assert sum(line.startswith(("✓ n", "· n")) for line in every) == COUNT
    assert sum(line.startswith("✓ n") for line in finished) == 500
    assert any(line.startswith("· 500 nodes") for line in finished)


def test_a_small_request_is_shown_whole() -> None:
    names = [f"s{number}" for number in range(LIMIT)]

    shown = overview_lines(story(chain(*names), now=1.0), WIDE)

    assert sum(line.startswith(("· s", "▸ s")) for line in shown) == LIMIT


def test_a_text_names_ten_nodes_at_most() -> None:
    names = [str(number) for number in range(1200)]

    assert listed(names[:10]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listed(names) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,190 more"
