"""When a delivery that did not come through is tried again: the same for all queues of this package."""

from __future__ import annotations

import random
import time

from faasflow.graph.policy import seconds_of

AGAIN = frozenset((408, 429, 502, 503, 504))
"""The statuses that ask for patience; any other answer would not change if it were asked for again at once."""

ATTEMPTS = 50
"""How often a delivery is tried before it is given up."""

DELIVERY_HEADER = "X-Faas-Flow-Delivery"
"""The header of a delivery that is tried again: its number, from 2."""

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 30.0
_LONGEST_RETRY_AFTER = 60.0


def retry_delay(
    tries: int, *, longest: float = _LONGEST_DELAY, retry_after: str = "", now: float | None = None
) -> float:
    """Seconds to wait after `tries` failed deliveries: doubling from 0.1 to `longest` with up to half of it taken off
    at random, or what `Retry-After` says, up to a minute."""
    asked = seconds_of(retry_after, time.time() if now is None else now)
    if asked is not None:
        return min(asked, _LONGEST_RETRY_AFTER)
    # 2**20 is past the longest delay already, and larger powers overflow.
    delay: float = min(longest, _FIRST_DELAY * 2 ** min(tries - 1, 20))
    return delay * random.uniform(0.5, 1.0)
