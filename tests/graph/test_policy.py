"""Retry policies: which failures are tried again, after how long, and which policies cannot be meant."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faasflow import DefinitionError, Fatal, Retry
from faasflow.errors import (
    BranchesFailedError,
    CallError,
    CallTimeoutError,
    DataError,
    DefinitionChangedError,
    NoAnswerError,
    NodeTimeoutError,
)
from faasflow.graph.policy import LONGEST_WAIT, RETRIED_CODES, seconds_of

numbers = st.floats(0, sys.float_info.max) | st.integers(0, 10**300)
policies = st.builds(
    Retry,
    attempts=st.integers(1, 10**6),
    delay=numbers,
    factor=st.floats(1, sys.float_info.max) | st.integers(1, 10**300),
    max_delay=numbers,
    jitter=st.floats(0, 1),
)
gentle = st.builds(
    Retry,
    delay=st.floats(0.001, 100),
    factor=st.floats(1, 10),
    max_delay=st.floats(0.001, 1000),
    jitter=st.floats(0, 1),
)


def answered(code: int) -> CallError:
    return CallError("no", code=code)


class TestWait:
    """How long it is until the next attempt."""

    def test_each_wait_is_longer_by_the_factor_up_to_the_longest(self) -> None:
        policy = Retry(attempts=9, delay=2, factor=3, max_delay=50)

        assert [policy.wait(failed) for failed in range(1, 6)] == [2, 6, 18, 50, 50]

    def test_a_factor_of_one_keeps_waits_as_they_are(self) -> None:
        assert {Retry(delay=7, factor=1).wait(failed) for failed in range(1, 100)} == {7}

    def test_without_a_delay_the_next_attempt_follows_at_once(self) -> None:
        assert [Retry(delay=0, factor=10).wait(failed) for failed in (1, 2, 100, 10**6)] == [0, 0, 0, 0]

    def test_jitter_spreads_waits_to_both_sides(self) -> None:
        policy = Retry(delay=10, jitter=0.2)

        assert [policy.wait(1, chance=chance) for chance in (0, 0.25, 0.5, 1)] == [8, 9, 10, 12]

    def test_an_answer_makes_a_wait_longer_but_never_shorter(self) -> None:
        policy = Retry(delay=10, jitter=0)

        assert policy.wait(1, retry_after=25) == 25
        assert policy.wait(1, retry_after=2) == 10

    def test_an_answer_may_ask_for_more_than_the_longest_delay(self) -> None:
        assert Retry(delay=1, max_delay=5).wait(1, retry_after=60) == 60

    def test_no_answer_puts_an_attempt_off_for_ever(self) -> None:
        assert Retry().wait(1, retry_after=math.inf) == LONGEST_WAIT

    @given(policy=policies, failed=st.integers(1, 10**9), chance=st.floats(0, 1), retry_after=st.floats(0))
    def test_a_wait_can_always_be_set_as_a_timer(
        self, policy: Retry, failed: int, chance: float, retry_after: float
    ) -> None:
        assert 0 <= policy.wait(failed, chance=chance, retry_after=retry_after) <= LONGEST_WAIT

    @given(policy=gentle, failed=st.integers(1, 50), chance=st.floats(0, 1))
    def test_jitter_stays_within_its_share(self, policy: Retry, failed: int, chance: float) -> None:
        usual = policy.wait(failed)

        assert abs(policy.wait(failed, chance=chance) - usual) <= (policy.jitter + 1e-12) * usual

    @given(policy=gentle, failed=st.integers(1, 50))
    def test_waits_never_get_shorter(self, policy: Retry, failed: int) -> None:
        assert policy.wait(failed) <= policy.wait(failed + 1)
        assert policy.wait(failed) <= policy.max_delay


class TestCovers:
    """Which failures are tried again."""

    @pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 599])
    def test_statuses_that_may_pass_are_tried_again(self, code: int) -> None:
        assert Retry().covers(answered(code))

    @pytest.mark.parametrize("code", [301, 400, 401, 404, 409, 413, 422])
    def test_statuses_that_say_the_call_is_wrong_are_not(self, code: int) -> None:
        assert not Retry().covers(answered(code))

    @given(codes=st.sets(st.integers(100, 599)), code=st.integers(100, 599))
    def test_own_codes_replace_the_usual_ones(self, codes: set[int], code: int) -> None:
        assert Retry(codes=codes).covers(answered(code)) is (code in codes)

    def test_what_answered_is_judged_by_its_status_alone(self) -> None:
        assert Retry(exceptions=(KeyError,)).covers(answered(503))
        assert not Retry(exceptions=(CallError,)).covers(answered(404))

    @pytest.mark.parametrize(
        "error",
        [NoAnswerError("x"), CallTimeoutError("x"), NodeTimeoutError("x"), DataError("x"), KeyError(), OSError()],
    )
    def test_any_other_failure_is_tried_again_unless_types_are_named(self, error: Exception) -> None:
        assert Retry().covers(error)
        assert not Retry(exceptions=(AssertionError,)).covers(error)
        assert not Retry(exceptions=()).covers(error)

    def test_a_type_covers_those_that_inherit_from_it(self) -> None:
        policy = Retry(exceptions=(ConnectionError, TimeoutError))

        assert policy.covers(NoAnswerError("x"))
        assert policy.covers(CallTimeoutError("x"))
        assert not policy.covers(ValueError())

    def test_fatal_ends_retries_even_where_it_is_named(self) -> None:
        assert not Retry(exceptions=(Fatal, Exception)).covers(Fatal("no use"))

    @pytest.mark.parametrize("error", [DefinitionChangedError("changed"), BranchesFailedError("too many")])
    def test_what_would_fail_again_for_sure_is_not_tried_again(self, error: Exception) -> None:
        assert not Retry().covers(error)

    def test_the_end_of_the_process_is_tried_again_only_where_it_is_named(self) -> None:
        assert not Retry().covers(SystemExit())
        assert Retry(exceptions=[SystemExit]).covers(SystemExit())


MISTAKES = {
    "attempts": [0, -1, 1.5, True, "3", None, math.inf],
    "delay": [-1, -0.001, math.nan, math.inf, True, "1s", None, 10**400],
    "factor": [0.5, 0, -2, math.nan, math.inf, True, "2", None],
    "max_delay": [-1, math.nan, math.inf, False, "1m", None, 10**400],
    "jitter": [-0.1, 1.1, 10, math.nan, True, "0.1", None],
    "codes": [503, "503", b"503", (99,), (600,), ("503",), (503, True), (200.0,), None],
    "exceptions": [OSError, (OSError, "ValueError"), (OSError(),), "OSError", (int,), None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MISTAKES.items() for value in values])
def test_a_policy_that_cannot_be_meant_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(DefinitionError) as caught:
        Retry(**{name: value})

    assert str(caught.value).startswith(f"The {name} of Retry() is {value!r}. Give ")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("attempts", 1), ("attempts", 10**9), ("delay", 0), ("factor", 1), ("factor", 1.5), ("max_delay", 0)],
        *[("jitter", 0), ("jitter", 1), ("codes", ()), ("codes", {100, 599}), ("codes", range(500, 600))],
        *[("exceptions", ()), ("exceptions", [OSError]), ("exceptions", (BaseException,))],
    ],
)
def test_the_bounds_themselves_are_allowed(name: str, value: object) -> None:
    kept = getattr(Retry(**{name: value}), name)

    assert kept == value if isinstance(value, int | float) else set(kept) == set(value)


def test_equal_policies_are_equal_however_their_collections_are_written() -> None:
    assert Retry(codes=[503, 429], exceptions=[OSError]) == Retry(codes={429, 503}, exceptions=(OSError,))
    assert hash(Retry(codes=[503])) == hash(Retry(codes=(503,)))
    assert Retry(codes=[503]) != Retry(codes=[504])


def test_a_policy_does_not_change_with_the_list_it_was_made_of() -> None:
    codes = [503]
    policy = Retry(codes=codes)
    codes.append(404)

    assert not policy.covers(answered(404))


def test_a_policy_is_shown_as_it_is_written() -> None:
    assert repr(Retry()) == "Retry()"
    assert repr(Retry(attempts=5, delay=0.5, codes=RETRIED_CODES)) == "Retry(attempts=5, delay=0.5)"
    assert eval(repr(Retry(attempts=2, codes=[503]))) == Retry(attempts=2, codes=[503])


class TestRetryAfter:
    """What the header of an answer asks for."""

    NOW = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            *[("0", 0.0), ("7", 7.0), (" 120 ", 120.0), ("Sun, 09 Sep 2001 01:47:10 GMT", 30.0)],
            *[("Sun, 09 Sep 2001 01:46:00 GMT", 0.0), ("", None), ("soon", None), ("-5", None), ("1e3", None)],
            *[("120.5", 120.5), ("1.", 1.0), (".5", None), ("1.5.2", None), ("1,5", None)],
            *[("²", None), ("Sun, 09 Sep 99999 01:47:10 GMT", None)],
        ],
    )
    def test_a_number_or_a_date_is_read_and_anything_else_ignored(self, text: str, seconds: float | None) -> None:
        assert seconds_of(text, self.NOW) == seconds

    @given(text=st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+\w]+") | st.from_regex(r"[0-9]{1,500}"))
    def test_no_text_is_too_strange(self, text: str) -> None:
        found = seconds_of(text, self.NOW)

        assert found is None or found >= 0
