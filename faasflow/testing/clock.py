"""A clock that tests set."""

from __future__ import annotations


class FakeClock:
    """Time that passes only when it is asked for: each `now` is `tick` seconds after the last, `sleep` never waits."""

    def __init__(self, start: float = 1_700_000_000.0, *, tick: float = 0.001) -> None:
        self._now = start
        self._tick = tick

    def now(self) -> float:
        """Seconds since the Unix epoch; never the same twice."""
        self._now += self._tick
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += seconds

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, or step back with a negative number, as wall clocks do."""
        self._now += seconds
