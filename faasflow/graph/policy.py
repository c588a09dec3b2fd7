"""What is done when a step fails: whether and when it is tried again, and how many branches of a foreach may fail."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from faasflow.errors import CallError, DefinitionChangedError, Fatal

RETRIED_CODES = frozenset((408, 425, 429, *range(500, 600)))
"""The statuses that a policy retries unless it names its own: those that say the same call may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failed step is tried again, and after how long.

    `attempts` counts the first one too. The wait before the second attempt is `delay` seconds, and each further one
    `factor` times as long, up to `max_delay`; each is longer or shorter at random by up to the share `jitter` of it.
    An answer's `Retry-After` makes a wait longer, never shorter. Of failed calls those that were answered with one of
    `codes` are retried, of other errors those of the types in `exceptions`; `Fatal` never is.
    """

    attempts: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1
    codes: Collection[int] = RETRIED_CODES
    exceptions: tuple[type[BaseException], ...] = (Exception,)

    def covers(self, error: BaseException) -> bool:
        """Whether a step that failed with `error` may be tried again."""
        if isinstance(error, Fatal | DefinitionChangedError):
            return False
        if isinstance(error, CallError):
            return error.code in self.codes
        return isinstance(error, self.exceptions)

    def wait(self, failed: int, *, chance: float = 0.5, retry_after: float = 0.0) -> float:
        """Seconds from the end of the attempt number `failed` to the next. `chance`, from 0 to 1, picks the jitter: 0.5
        is none."""
        # 2**60 seconds is past any delay, and larger powers overflow.
        growth = self.factor ** min(failed - 1, 60) if self.factor > 1 else self.factor ** (failed - 1)
        usual = min(self.delay * growth, self.max_delay) * (1 + self.jitter * (2 * chance - 1))
        return max(usual, retry_after)
