from __future__ import annotations

import pytest

from faasflow.local.client import Reply
from faasflow.local.delivery import Outcome
from faasflow.transport.retry import retry_delay

NOON = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC


@pytest.mark.parametrize("status", [200, 202, 301, 400, 404, 409, 500, 501])
def test_an_answer_that_asking_again_would_not_change_is_delivered(status):
    assert Outcome(status, Reply(status, [], b"")).is_delivered


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_an_answer_that_asks_for_patience_is_not_delivered(status):
    assert not Outcome(status, Reply(status, [], b"")).is_delivered


def test_no_answer_is_not_delivered():
    assert not Outcome(503, reason="unreachable").is_delivered


@pytest.mark.parametrize(
    ("tries", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30), (50, 30), (5000, 30)]
)
def test_delays_double_up_to_half_a_minute_less_some_jitter(tries, longest):
    delays = {retry_delay(tries) for _ in range(50)}

    assert longest / 2 <= min(delays) < max(delays) <= longest


@pytest.mark.parametrize(
    ("asked", "delay"),
    [("7", 7), ("0", 0), ("86400", 60), ("Thu, 01 Jan 2026 12:00:20 GMT", 20), ("Thu, 01 Jan 2026 11:00:00 GMT", 0)],
)
def test_retry_after_is_obeyed_up_to_a_minute(asked, delay):
    assert retry_delay(3, retry_after=asked, now=NOON) == delay


def test_a_retry_after_that_says_nothing_is_ignored():
    assert retry_delay(1, retry_after="soon") <= 0.1
