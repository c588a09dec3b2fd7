"""What `faasflow up` writes is read in 80 columns."""

from __future__ import annotations

from datetime import datetime

import pytest

from faasflow.cli.look import Look
from faasflow.cli.up_lines import short_lines

NOW = datetime(2026, 1, 31, 12, 1, 2)
ENGINE = "[orders] INFO flow=orders request=06h2g24t1nh24s74u6cn node=first%20step attempt=1 faasflow.engine"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"{ENGINE}.executor: first%20step started.", "12:01:02 orders 06h…u6cn first step  started."),
        (
            f"{ENGINE}.settlement: first%20step ended: FINISHED in 0.003 s.",
            "12:01:02 orders 06h…u6cn first step  ended: FINISHED in 0.003 s.",
        ),
        (
            "[orders] INFO flow=orders request=o-17 node=check attempt=2 stdout: checking 2 items",
            "12:01:02 orders o-17 check (attempt 2)  checking 2 items",
        ),
        (
            "[orders] WARNING flow=orders request=o-17 node=check attempt=1 shop: low",
            "12:01:02 orders o-17 check  WARNING shop: low",
        ),
        ("[shout] shouting", "12:01:02 shout  shouting"),
        ("[shout] faasflow: the process ended", "12:01:02 shout  faasflow: the process ended"),
        ("ready", "ready"),
    ],
)
def test_lines_say_when_who_and_what(line: str, shown: str) -> None:
    assert short_lines(line, Look(80), NOW) == [shown]


def test_what_a_function_writes_is_wrapped_and_what_the_engine_logs_is_cut() -> None:
    words = "word " * 40

    wrapped = short_lines(f"[shout] {words}", Look(80), NOW)
    cut = short_lines(f"{ENGINE}.executor: {words}", Look(80), NOW)

    assert " ".join(" ".join(wrapped).split()).removeprefix("12:01:02 shout ") == words.strip()
    assert max(map(len, wrapped)) <= 80
    assert len(cut) == 1
    assert len(cut[0]) <= 80


def test_a_terminal_cannot_be_steered_and_has_colour() -> None:
    look = Look(80, has_colour=True, is_terminal=True)

    assert short_lines("[shout] \x1b[2Jgone", look, NOW) == ["\x1b[36m12:01:02 shout  \x1b[0m␛[2Jgone"]
