"""Leases: whoever works on a step for longer than a moment says so in the ledger, and renews it until it is done.

A queue that delivers a message again while its first handler still works finds the lease and leaves the step alone.
Leases save work; they decide no outcome. A lease that was lost (its holder stood still past its end) is not noticed by
the step's outcome: that is created once, whoever comes first. They also count: one that ran out and was not given back
is a start that came to nothing, and what is started so `LOST_STARTS` times fails.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from faasflow.engine.flow_time import FlowTime, is_believed
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.records import LeaseRecord, StartRecord, dump, load
from faasflow.errors import FaasflowError, TryAgainError

logger = logging.getLogger(__name__)

LOST_STARTS = 5
"""So many starts of an attempt may come to nothing before it fails."""

_BEAT = 0.5
_IDLE = 10.0
_OWED = 600.0
_DOUBTFUL = 0.5
"""How much of its usual length the lease of a step has at first that may have been started before."""
_MOST_SEEN = 1000


@dataclass(slots=True)
class Running:
    """A step that is being worked on here. `request` is as it was last read, if it was. `held` is the lease as it
    stands in the ledger, `None` before there is one, and `start` the key of the record of a start that may be the only
    one. `lost` starts of the attempt before this one came to nothing. `expire` is called once, when the step has not
    ended by `deadline`."""

    ledger: Ledger
    request: StoredRequest | None
    key: str
    attempt: int
    started: float
    deadline: float | None = None
    expire: Callable[[], None] | None = None
    owner: str = field(default_factory=lambda: secrets.token_hex(6))
    held: bytes | None = None
    lasts: float = 0.0
    lost: int = 0
    start: str = ""
    renewed: float = 0.0
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Leases:
    """The leases of one process. A lease appears `after` seconds of work and lasts `duration`; a thread renews it each
    third of that. With `after` infinite there are none but those that are taken by name, and no thread."""

    def __init__(self, time: FlowTime, *, after: float, duration: float) -> None:
        self._time = time
        self._after = after
        self._duration = duration
        self._running: dict[int, Running] = {}
        self._owed: list[Running] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_idle = False
        self._pause = threading.Event()
        self._seen: dict[tuple[str, float], float] = {}

    @contextmanager
    def working(self, running: Running) -> Iterator[None]:
        """Keep the lease of a step while it is being worked on."""
        with self._changed:
            self._running[id(running)] = running
            self._wake()
        try:
            yield
        finally:
            with self._changed:
                del self._running[id(running)]
            with running.lock:  # a renewal under way ends first, so that nothing is written behind the outcome
                running.is_over = True

    def take(self, running: Running, stood: bytes | None = None) -> bool:
        """Take a lease now: a new one, or instead of the one that `stood` there; False if somebody was faster. It is
        short until it is renewed, so that what ends its process at once is known soon."""
        return self._take(running, stood, self._duration * _DOUBTFUL)

    def _take(self, running: Running, stood: bytes | None, lasts: float) -> bool:
        fresh = self._fresh(running, lasts)
        if stood is not None:
            taken = running.ledger.replace(running.key, stood, fresh)
        else:
            assert running.request is not None
            taken = running.ledger.commit(running.request, create={running.key: fresh}).is_done
        if taken:
            running.held, running.renewed = fresh, self._time.now()
        return taken

    def start_once(self, running: Running, key: str, outcome: str) -> bool:
        """Record under `key` that the step is started, together with its lease if it has none; False if somebody was
        faster, also with its `outcome`, or the request has changed."""
        assert running.request is not None
        with running.lock:  # the lease may be just being written
            now, fresh = self._time.now(), self._fresh(running, self._duration)
            create = {key: dump(StartRecord(running.owner, now))}
            if running.held is None:
                create[running.key] = fresh
            if not running.ledger.commit(running.request, create=create, absent=[outcome]).is_done:
                return False
            if running.held is None:
                running.held, running.renewed = fresh, now
            running.start = key
            return True

    def release(self, running: Running) -> None:
        """End a lease without an outcome, so that the step may be done by the next delivery, and this start does not
        count as lost. A store that is away is told when it is back."""
        if running.held is None:
            return
        try:
            self._give_back(running)
        except FaasflowError:
            with self._changed:
                self._owed.append(running)
                self._wake()

    def _give_back(self, running: Running) -> None:
        assert running.held is not None
        ended = LeaseRecord(running.owner, self._time.now(), running.attempt, running.lost)
        running.ledger.replace(running.key, running.held, dump(ended))

    def take_over(self, running: Running, stood: bytes | None) -> bool:
        """Take the lease of one who let it end; False if none stood there. `TryAgainError` if it has not ended, or
        somebody else is faster."""
        if stood is None:
            return False
        left = self.left(stood, running.key)
        self._count(running, stood)
        if left > 0 or not self.take(running, stood):
            raise TryAgainError(f"{running.key!r} is held by another delivery.", retry_after=max(left, _BEAT))
        return True

    def _count(self, running: Running, stood: bytes) -> None:
        record = load(stood, LeaseRecord, running.key)
        running.lost = record.lost if record.attempt == running.attempt else 0

    def left(self, entry: bytes, key: str) -> float:
        """For how many seconds a lease still holds; at most its duration, from when it was first seen where it was
        written by a clock that is ahead. Who cannot be sure of the time leaves it alone."""
        lease, now = load(entry, LeaseRecord, key), self._time.now()
        left = lease.until - now
        if not is_believed(lease.until - self._duration, now):
            left = self._first_seen(lease, now) + self._duration - now
        return min(left if self._time.is_sure else max(left, _BEAT), self._duration)

    def _first_seen(self, lease: LeaseRecord, now: float) -> float:
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        return self._seen.setdefault((lease.owner, lease.until), now)

    def beat(self) -> None:
        """Write and renew the leases for which it is time, and end what is over its deadline."""
        with self._changed:
            running, owed = list(self._running.values()), list(self._owed)
        for one in running:
            try:
                self._care(one)
            except FaasflowError as error:
                # The work goes on: without its lease it may be done twice, and its outcome is recorded once.
                logger.warning("%s could not be renewed: %s", one.key, error)
        for one in owed:
            self._pay(one)

    def _pay(self, running: Running) -> None:
        """Give a lease back that could not be given back before."""
        try:
            self._give_back(running)
        except FaasflowError as error:
            if 0 <= self._time.now() - running.renewed < _OWED:
                return
            logger.warning("%s was not given back: %s", running.key, error)
        with self._changed:
            self._owed.remove(running)

    def _care(self, running: Running) -> None:
        now = self._time.now()
        with running.lock:
            if running.is_over:
                return
            if running.held is None:
                if now - running.started >= self._after:
                    self._begin(running)
            elif not 0 <= now - running.renewed < running.lasts / 3:
                self._renew(running, now)
            is_late = running.deadline is not None and now >= running.deadline
            expire, running.expire = (running.expire, None) if is_late else (None, running.expire)
        if expire is not None:
            # It may run the handler's code, and other leases must not wait for that.
            threading.Thread(target=expire, name="timeout", daemon=True).start()

    def _begin(self, running: Running) -> None:
        if running.request is not None and self._take(running, None, self._duration):
            return
        # The request has changed since it was read, or somebody else works on the same step.
        snapshot = running.ledger.read([running.key])
        running.request = snapshot.request
        is_free = snapshot.request is not None and running.key not in snapshot.entries
        if not (is_free and self._take(running, None, self._duration)):
            running.started = float("inf")

    def _renew(self, running: Running, now: float) -> None:
        fresh = self._fresh(running, self._duration)
        assert running.held is not None
        if running.ledger.replace(running.key, running.held, fresh):
            running.held, running.renewed = fresh, now
        else:
            running.held, running.started = None, float("inf")

    def _fresh(self, running: Running, lasts: float) -> bytes:
        running.lasts = lasts
        return dump(LeaseRecord(running.owner, self._time.now() + lasts, running.attempt, running.lost + 1))

    def _wake(self) -> None:
        if self._after == float("inf"):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
            self._thread.start()
        elif self._is_idle:
            self._changed.notify()

    def _keep(self) -> None:
        while self._has_work():
            self._pause.wait(_BEAT)
            self.beat()

    def _has_work(self) -> bool:
        """Wait for work; after a while without any, the thread ends."""
        with self._changed:
            self._is_idle = True
            found = self._changed.wait_for(lambda: bool(self._running or self._owed), timeout=_IDLE)
            self._is_idle = False
            if not found:
                self._thread = None
            return found
