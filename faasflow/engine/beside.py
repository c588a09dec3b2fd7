"""Work beside the timers: what the clock hands over, so that nothing slow holds up the thread that fires them.

A lane is a queue with threads of its own. A job that takes long does not count as one of them: another thread takes its
place, up to a limit, so that the others are served in the order in which they came.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

logger = logging.getLogger(__name__)

_SIZE = 4
_MOST = 32
_BACKLOG = 64
_PATIENCE = 2.0
_IDLE = 5.0


class Lane(StrEnum):
    """What must not wait for each other: messages to the queue, looks at requests, and whatever runs user code, calls
    back or needs the data store."""

    FORWARD = "forward"
    LOOK = "look"
    END = "end"


Job = Callable[[], None]


class Workers(Protocol):
    """Runs jobs. A job raises nothing."""

    def has_room(self, lane: Lane) -> bool:
        """Whether another job would be begun soon."""

    def submit(self, lane: Lane, run: Job, give_up: Job) -> None:
        """Run a job, now or later; `give_up` is called instead where it will not be run."""


class Inline:
    """Runs each job at once, in the caller's thread."""

    def has_room(self, lane: Lane) -> bool:
        return True

    def submit(self, lane: Lane, run: Job, give_up: Job) -> None:
        run()


@dataclass(slots=True)
class _Line:
    """The state of a lane: jobs that wait, and since when each thread is at work, `None` for one that waits."""

    jobs: deque[tuple[Job, Job]] = field(default_factory=deque)
    threads: dict[int, float | None] = field(default_factory=dict)

    def lacks_threads(self, now: float) -> bool:
        idle = sum(since is None for since in self.threads.values())
        stuck = sum(since is not None and now - since > _PATIENCE for since in self.threads.values())
        return len(self.jobs) > idle and len(self.threads) < min(_MOST, _SIZE + stuck)


class Pool:
    """Threads for the jobs of a process, a few for each lane, started when they are needed."""

    def __init__(self) -> None:
        self._lines = {lane: _Line() for lane in Lane}
        self._changed = threading.Condition()
        self._number = 0
        self._ended = False

    def has_room(self, lane: Lane) -> bool:
        with self._changed:
            self._staff(lane)
            return not self._ended and len(self._lines[lane].jobs) < _BACKLOG

    def submit(self, lane: Lane, run: Job, give_up: Job) -> None:
        with self._changed:
            if not self._ended:
                self._lines[lane].jobs.append((run, give_up))
                self._staff(lane)
                self._changed.notify_all()
                return
        give_up()

    def stop(self, patience: float) -> bool:
        """Begin no more jobs, give up those that wait, and give those under way `patience` seconds to end; whether they
        did."""
        with self._changed:
            self._ended = True
            waiting = [give_up for line in self._lines.values() for _, give_up in line.jobs]
            for line in self._lines.values():
                line.jobs.clear()
            self._changed.notify_all()
        for give_up in waiting:
            give_up()
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy(), timeout=patience)

    def _busy(self) -> bool:
        return any(since is not None for line in self._lines.values() for since in line.threads.values())

    def _staff(self, lane: Lane) -> None:
        line = self._lines[lane]
        while line.lacks_threads(time.monotonic()):
            self._number += 1
            line.threads[self._number] = None
            name = f"clock-{lane}-{self._number}"
            threading.Thread(target=self._work, args=(lane, self._number), name=name, daemon=True).start()

    def _work(self, lane: Lane, number: int) -> None:
        line = self._lines[lane]
        while job := self._next(line, number):
            try:
                job()
            except Exception as error:
                logger.exception("Work of the clock failed with %s.", type(error).__name__)
            with self._changed:
                line.threads[number] = None
                self._changed.notify_all()

    def _next(self, line: _Line, number: int) -> Job | None:
        """A job for a thread; `None` if it is to end."""
        with self._changed:
            found = self._changed.wait_for(lambda: line.jobs or self._ended, timeout=_IDLE)
            # While others are stuck there were more threads than are needed afterwards.
            if not found or self._ended:
                del line.threads[number]
                return None
            run, _ = line.jobs.popleft()
            line.threads[number] = time.monotonic()
            return run
