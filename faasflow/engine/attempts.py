"""The attempts of a step: which have failed, and whether and when another one follows. No I/O."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from faasflow import graph
from faasflow.engine.guard import UserCodeError, user_code
from faasflow.engine.position import Step
from faasflow.engine.records import AttemptRecord, Failure, load
from faasflow.errors import (
    CallError,
    FaasflowError,
    LostStartError,
    NodeTimeoutError,
    TransportError,
    UnreachableError,
    variable_hint,
)
from faasflow.graph.policy import Retry, seconds_of

_LONGEST_TRACEBACK = 8000
_LONGEST_MESSAGE = 4000
_LONGEST_NAME = 200
_SHORT = 300
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_OPEN_CODES = frozenset((408, 502, 504))
"""Statuses that a gateway answers for a function that may have done its work."""

CONNECTING = Retry(attempts=15, delay=1.0, factor=2.0, max_delay=60.0, exceptions=(UnreachableError,))
"""How long a target is waited for that cannot be connected to: about nine minutes. Tries are counted, and not minutes:
while the gateway is away, no message arrives to try."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """The recorded attempts of a step, oldest first."""

    failed: tuple[AttemptRecord, ...] = ()

    @property
    def groups(self) -> dict[int, int]:
        """By its place in the node, how often each operation was answered with a failure."""
        groups: dict[int, int] = {}
        for attempt in self.failed:
            if not attempt.failure.is_open:
                groups[attempt.failure.index] = groups.get(attempt.failure.index, 0) + 1
        return groups

    @property
    def last(self) -> AttemptRecord | None:
        return self.failed[-1] if self.failed else None

    def count(self, run: int, scope: int | None) -> int:
        """How many of one run failed under the same policy."""
        return sum(attempt.run == run and attempt.scope == scope for attempt in self.failed if not attempt.unsent)

    @property
    def unsent(self) -> int:
        """How many could not connect to what they were to call, and do not count."""
        return sum(attempt.unsent for attempt in self.failed)

    def is_lost(self, run: int) -> bool:
        """Whether the last one of a run failed because its process ended each time."""
        last = self.last
        return last is not None and last.run == run and last.failure.error_type == LostStartError.__name__

    def connecting(self, run: int) -> int:
        """How often the last ones of a run could not connect, one after the other."""
        latest = takewhile(lambda attempt: attempt.unsent and attempt.run == run, reversed(self.failed))
        return sum(1 for _ in latest)


def recorded(step: Step, entries: Mapping[str, bytes]) -> Attempts:
    """The attempts of `step` among `entries`."""
    numbers = sorted(numbers_of(step, entries))
    keys = [attempt_key(step, number) for number in numbers]
    return Attempts(tuple(load(entries[key], AttemptRecord, key) for key in keys))


def numbers_of(step: Step, keys: Iterable[str]) -> list[int]:
    """The numbers of the attempts of `step` among `keys`."""
    names = (key.removeprefix(step.attempts) for key in keys if key.startswith(step.attempts))
    # Below the same prefix stand the attempts of the steps inside this one.
    return [int(name) for name in names if "/" not in name]


def counts(keys: Iterable[str]) -> dict[str, int]:
    """How many attempts are recorded, by the prefix of their keys."""
    found: dict[str, int] = {}
    for key in keys:
        if key.startswith("attempt/"):
            prefix, _, number = key.rpartition("/")
            found[prefix + "/"] = max(found.get(prefix + "/", 0), int(number))
    return found


def attempt_key(step: Step, number: int) -> str:
    """Where a failed attempt is recorded."""
    return f"{step.attempts}{number}"


def policy_of(definition: graph.Definition, node: graph.Node, failure: Failure) -> tuple[Retry | None, int | None]:
    """The policy that a failure of `node` falls under, and the operation whose own it is."""
    if failure.index >= 0:
        failed = node.operations[failure.index]
        if failed.may_retry and failed.retry is not None:
            return failed.retry, failure.index
    ran = node.operations[: failure.index + 1] if failure.index >= 0 else node.operations
    if node.at_most_once or not all(operation.may_retry for operation in ran):
        return None, None
    return node.retry or definition.retry, None


def can_wait(node: graph.Node, attempts: Attempts, run: int) -> bool:
    """Whether a call that cannot be made is to be made later. A node that may run at most once fails, and so does one
    whose target was waited for until the end of `CONNECTING`."""
    return not node.at_most_once and attempts.connecting(run) + 1 < CONNECTING.attempts


def wait(policy: Retry | None, error: BaseException, failed: int, *, chance: float, now: float) -> float | None:
    """Seconds until another attempt after `failed` failures, this one included; `None` if there is to be none."""
    if policy is None or failed >= policy.attempts or not policy.covers(error) or isinstance(error, UnreachableError):
        return None  # a target that cannot be connected to has been waited for already
    asked = seconds_of(error.retry_after, now) if isinstance(error, CallError) else None
    return policy.wait(failed, chance=chance, retry_after=asked or 0.0)


def failure_of(step: Step, error: BaseException, *, attempt: int, operation: str = "", index: int = -1) -> Failure:
    """What is recorded of an error."""
    code = _code(error)
    return Failure(
        node=step.position.path,
        error_type=_sound(type(error).__name__)[:_LONGEST_NAME],
        message=_text_of(error, str)[:_LONGEST_MESSAGE],
        operation=_sound(operation)[:_LONGEST_MESSAGE],
        attempt=attempt,
        traceback=_text_of(error, _traceback)[-_LONGEST_TRACEBACK:],
        hint=_text_of(error, _hint)[:_LONGEST_MESSAGE],
        index=index,
        code=code,
        is_open=isinstance(error, TransportError | NodeTimeoutError | LostStartError) or code in _OPEN_CODES,
    )


def short_failure(step: Step, error: BaseException, why: BaseException) -> Failure:
    """What is recorded of an error whose details cannot be: `why` says the reason."""
    text = f"{_text_of(error, str)[:_SHORT]} (its details cannot be recorded: {_text_of(why, str)[:_SHORT]})"
    return Failure(step.position.path, _sound(type(error).__name__)[:_LONGEST_NAME], text)


def _text_of(error: BaseException, text: Callable[[BaseException], str]) -> str:
    """What `text` says of an error, whose class may be the handler's own and break every rule."""
    try:
        with user_code():
            return _sound(text(error))
    except UserCodeError as broken:
        return f"({getattr(text, '__name__', 'str').strip('_')}() of it failed with {broken})"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _hint(error: BaseException) -> str:
    """The way out, or what was added to an exception to explain it (PEP 678)."""
    if isinstance(error, FaasflowError):
        return str(getattr(error, "hint", "") or "")
    return " ".join(filter(None, [variable_hint(error), *map(str, getattr(error, "__notes__", ()))]))


def _code(error: BaseException) -> int:
    code = getattr(error, "code", 0) if isinstance(error, CallError) else 0
    return code if isinstance(code, int) and 0 <= code < 1000 else 0


def _sound(text: str) -> str:
    """`text` as it can be stored and shown: the name of a file may hold what is no text, and JSON makes six characters
    of each that controls a terminal."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
