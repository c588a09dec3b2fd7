"""When a delivery that did not come through is tried again: the same for all queues of this package."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

AGAIN = frozenset((408, 429, 502, 503, 504))
"""The statuses that ask for patience; any other answer would not change if it were asked for again at once."""

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 30.0
_LONGEST_RETRY_AFTER = 60.0


def retry_delay(
    tries: int, *, longest: float = _LONGEST_DELAY, retry_after: str = "", now: float | None = None
) -> float:
    """Seconds to wait after `tries` failed deliveries: doubling from 0.1 to `longest` with up to half of it taken off
    at random, or what `Retry-After` says, up to a minute."""
    asked = _retry_after(retry_after, time.time() if now is None else now)
    if asked is not None:
        return min(asked, _LONGEST_RETRY_AFTER)
    # 2**20 is past the longest delay already, and larger powers overflow.
    delay: float = min(longest, _FIRST_DELAY * 2 ** min(tries - 1, 20))
    return delay * random.uniform(0.5, 1.0)


def _retry_after(text: str, now: float) -> float | None:
    """The seconds a `Retry-After` asks for, as a number or a date; None if it says neither."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError):
        return None
