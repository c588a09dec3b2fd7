"""Firing timers: those that are due are claimed and handed to the workers, whatever comes of the others."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

import msgspec

from faasflow.engine.aside import Aside, load_timer
from faasflow.engine.beside import Inline, Lane
from faasflow.engine.claims import Claim, Claims
from faasflow.engine.closing import is_closing
from faasflow.engine.ledger import StoredRequest, Unreadable, read_requests
from faasflow.engine.parts import Parts
from faasflow.engine.position import load_step
from faasflow.engine.round import Round
from faasflow.engine.timers import Timer, due_of, is_look
from faasflow.errors import FaasflowError, StoreCorruptError, StoreUnavailableError
from faasflow.ports import Entry
from faasflow.scope import Scope, entered

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF = 60.0

Act = Callable[[Timer, StoredRequest | None, float, Round], Timer | None]
"""Does at a time what a timer is for; the timer that comes after it."""


class Firing:
    """Fires the timers of one flow; what each is for, `act` does."""

    def __init__(self, parts: Parts, aside: Aside, act: Act) -> None:
        self._parts = parts
        self._aside = aside
        self._act = act
        self._claims = Claims(parts)

    def renew(self, now: float) -> None:
        """Renew the claims on timers that are still being worked on."""
        self._claims.renew(now)

    def due(self, keys: Sequence[str], now: float) -> list[str]:
        """Which of some timers are due, and what is no timer."""
        due = [key for key in keys if (due_at(key, self._parts.flow) or 0.0) <= now]
        random.shuffle(due)  # so that clocks that tick together do not all want the same one
        return due

    def fire(self, keys: Sequence[str], now: float, round: Round) -> None:
        """Claim timers and hand them to the workers."""
        timers = self._read_timers([key for key in keys if self._has_room(key)])
        ids = {timer.request for _, _, timer in timers}
        requests = read_requests(self._parts.state, self._parts.flow, ids)
        for key, entry, timer in timers:
            request = requests.get(timer.request)
            if isinstance(request, Unreadable):
                self._aside.put(key, entry, request.why)
            else:
                round.add(fired=self._fire(key, entry, timer, request, now, round))

    def _has_room(self, key: str) -> bool:
        """Whether what a timer is for would be begun soon; else it stays due."""
        return self._parts.workers.has_room(Lane.LOOK if is_look(key) else Lane.FORWARD)

    def _read_timers(self, keys: Sequence[str]) -> list[tuple[str, Entry, Timer]]:
        timers = []
        for key, entry in (self._parts.state.read(keys) if keys else {}).items():
            try:
                timers.append((key, entry, load_timer(entry, key, self._parts.flow)))
            except StoreCorruptError as error:
                self._aside.put(key, entry, str(error))
        return timers

    def _fire(
        self, key: str, entry: Entry, timer: Timer, request: StoredRequest | None, now: float, round: Round
    ) -> bool:
        if self._is_over(timer, request):
            return self._claims.drop(key, entry)
        claim = self._claims.take(key, entry, timer, now)
        if claim is None:
            return False
        round.begin()
        self._parts.workers.submit(
            self._lane(timer, request, now),
            lambda: self._work(claim, request, round),
            lambda: self._give_up(claim, round),
        )
        return True

    def _lane(self, timer: Timer, request: StoredRequest | None, now: float) -> Lane:
        if request is None or timer.is_start:
            return Lane.END
        if timer.step is not None:
            return Lane.FORWARD
        record = request.record
        is_overdue = record.deadline is not None and now >= record.deadline and not record.state.has_ended
        return Lane.END if is_overdue else Lane.LOOK

    def _work(self, claim: Claim, request: StoredRequest | None, round: Round) -> None:
        """Do what a timer is for, and set the one that comes after it."""
        try:
            with entered(Scope(self._parts.flow, claim.timer.request)):
                self._claims.end(claim, self._followed(claim.timer, request, round))
        except StoreUnavailableError as error:  # the claim runs out, and the timer is due again
            self._claims.forget(claim)
            if isinstance(self._parts.workers, Inline):
                raise
            logger.warning("Flow %r: request %r could not be looked after: %s", *self._names(claim), error)
        finally:
            round.end()

    def _names(self, claim: Claim) -> tuple[str, str]:
        return self._parts.flow, claim.timer.request

    def _give_up(self, claim: Claim, round: Round) -> None:
        try:
            self._claims.end(claim, claim.timer)
        except FaasflowError as error:
            logger.info("Flow %r: the timer of request %r was not given back: %s", *self._names(claim), error)
        finally:
            round.end()

    def _followed(self, timer: Timer, request: StoredRequest | None, round: Round) -> Timer | None:
        """Do what a timer is for; the timer that comes after it. Whatever goes wrong concerns this one alone."""
        now = self._parts.time.now()
        try:
            return self._act(timer, request, now, round)
        except StoreUnavailableError:
            raise
        except (FaasflowError, RecursionError) as error:
            logger.warning("The request could not be looked after: %s", error)
        except Exception as error:
            logger.exception("The request could not be looked after: %s", type(error).__name__)
        return msgspec.structs.replace(timer, due=now + backoff(timer.tries), written=now, tries=timer.tries + 1)

    def _is_over(self, timer: Timer, request: StoredRequest | None) -> bool:
        if timer.is_start:
            return request is not None and request.record.incarnation == timer.incarnation
        if request is None or request.record.is_removed or timer.life != request.record.life:
            return True
        record = request.record
        if timer.step is not None:
            return record.state.has_ended and not is_closing(load_step(timer.step))
        return record.state.has_ended and not record.closing


def due_at(key: str, flow: str) -> float | None:
    """When a timer is due; `None` for what cannot be read, which is set aside at once."""
    try:
        return due_of(key, flow)
    except StoreCorruptError:
        return None


def backoff(tries: int) -> float:
    """For how many seconds to wait after so many tries in a row that came to nothing."""
    return min(_LONGEST_BACKOFF, 2.0 ** min(tries, 10))
