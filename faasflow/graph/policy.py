"""What is done when a step fails: whether and when it is tried again, and how many branches of a foreach may fail."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from email.utils import parsedate_to_datetime
from typing import Any

from faasflow.errors import BranchesFailedError, CallError, DefinitionChangedError, DefinitionError, Fatal

LONGEST_WAIT = 30 * 86400.0
"""Seconds that no wait exceeds, whatever a policy or an answer asks for."""

RETRIED_CODES = frozenset((408, 425, 429, *range(500, 600)))
"""The statuses that a policy retries unless it names its own: those that say the same call may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Retry:
    """How often a failed step is tried again, and after how long.

    `attempts` counts the first one too. The wait before the second attempt is `delay` seconds, and each further one
    `factor` times as long, up to `max_delay`; each is longer or shorter at random by up to the share `jitter` of it.
    An answer's `Retry-After` makes a wait longer, never shorter. Of failed calls those that were answered with one of
    `codes` are retried, of other errors those of the types in `exceptions`; `Fatal` never is, nor is what would fail
    again for sure. `DefinitionError` for values that cannot be meant.
    """

    attempts: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1
    codes: Collection[int] = RETRIED_CODES
    exceptions: Collection[type[BaseException]] = (Exception,)

    def __post_init__(self) -> None:
        for name, (is_right, way_out) in _RULES.items():
            value = getattr(self, name)
            if not is_right(value):
                raise DefinitionError(f"The {name} of Retry() is {value!r}. {way_out}")
        object.__setattr__(self, "codes", frozenset(self.codes))
        object.__setattr__(self, "exceptions", tuple(self.exceptions))

    def __repr__(self) -> str:
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"Retry({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"

    def covers(self, error: BaseException) -> bool:
        """Whether a step that failed with `error` may be tried again."""
        if isinstance(error, Fatal | DefinitionChangedError | BranchesFailedError):
            return False
        if isinstance(error, CallError):
            return error.code in self.codes
        return isinstance(error, tuple(self.exceptions))

    def wait(self, failed: int, *, chance: float = 0.5, retry_after: float = 0.0) -> float:
        """Seconds from the end of the attempt number `failed` to the next, `LONGEST_WAIT` at most. `chance`, from 0 to
        1, picks the jitter: 0.5 is none."""
        usual = min(self._grown(failed), self.max_delay) * (1 + self.jitter * (2 * chance - 1))
        return min(max(usual, retry_after), LONGEST_WAIT)

    def _grown(self, failed: int) -> float:
        try:
            return self.delay * float(self.factor) ** (failed - 1)
        except OverflowError:
            return math.inf if self.delay else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_wait(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _are_all(values: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(values, Collection) and not isinstance(values, str | bytes) and all(map(is_right, values))


def _is_code(value: Any) -> bool:
    return isinstance(value, int) and 100 <= value <= 599


def _is_error_type(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


_SECONDS = "Give a number of seconds, 0 or more."
_SECONDS_ASKED = re.compile(r"\d+(?:\.\d*)?")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "attempts": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
        "Give a whole number from 1, which counts the first attempt too.",
    ),
    "delay": (_is_wait, _SECONDS),
    "factor": (lambda value: _is_number(value) and value >= 1, "Give a number from 1, which leaves waits as they are."),
    "max_delay": (_is_wait, _SECONDS),
    "jitter": (lambda value: _is_number(value) and 0 <= value <= 1, "Give a share from 0 to 1."),
    "codes": (lambda value: _are_all(value, _is_code), "Give HTTP statuses from 100 to 599, such as (429, 503)."),
    "exceptions": (
        lambda value: _are_all(value, _is_error_type),
        "Give a tuple of exception types, such as (OSError,).",
    ),
}


def seconds_of(retry_after: str, now: float) -> float | None:
    """The seconds that a header `Retry-After` asks for, as a number or a date; `None` if it says neither. Servers also
    send fractions, which HTTP does not have."""
    if _SECONDS_ASKED.fullmatch(retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
