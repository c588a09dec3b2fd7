"""What a health check says of the clock: nothing as long as it runs, else a line with the way out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from faasflow.engine.flow_time import APART
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.engine.clock import ClockStatus

logger = logging.getLogger(__name__)

WAY_OUT = "Set tick_interval above 0, or let `faasflow tick` or the function flow-clock run; the log may say more."
SKEW_WAY_OUT = "Set the clock of its machine. Until then it goes by theirs."

_PATIENCE = 0.5


class ClockReport:
    """Looks at a clock in a thread of its own, one look at a time: a health check does not wait for a store."""

    def __init__(self, look: Callable[[], ClockStatus]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._line = ""

    def line(self) -> str:
        """What there is to say, empty for nothing. What takes long to find out is said the next time."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._update, name="clock-report", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(_PATIENCE)
        return self._line

    def _update(self) -> None:
        try:
            status = self._look()
            fault, skew = clock_fault(status), clock_skew(status.ahead)
            lines = [f"clock: {fault} {WAY_OUT}"] if fault else []
            self._line = "\n".join([*lines, f"time: {skew} {SKEW_WAY_OUT}"] if skew else lines)
        except FaasflowError as error:
            # Whether the store is there is asked at another route.
            logger.debug("The clock cannot be looked at: %s", error)
            self._line = ""


def clock_fault(status: ClockStatus) -> str:
    """What is wrong with a clock, empty for nothing. One that never had anything to do may stand still."""
    if not status.is_late or (status.last is None and not status.overdue):
        return ""
    last = "it never ticked" if status.last is None else f"last tick {ago(time.time() - status.last)} ago"
    return f"{last}, and something is due for {ago(status.overdue)}." if status.overdue else f"{last}."


def clock_skew(ahead: float) -> str:
    """What to say of a process whose clock is ahead of the others by so many seconds, or behind; empty for nothing."""
    if abs(ahead) < APART:
        return ""
    return f"the clock of this process is {ago(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the others."


def ago(seconds: float) -> str:
    """A length of time in one unit."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
