"""The attempts of a step: which have failed, and whether and when another one follows. No I/O."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from faasflow import graph
from faasflow.engine.position import Step
from faasflow.engine.records import AttemptRecord, Failure, load
from faasflow.errors import CallError, FaasflowError, NodeTimeoutError, TransportError
from faasflow.graph.policy import Retry, seconds_of

_LONGEST_TRACEBACK = 8000
_LONGEST_MESSAGE = 4000
_OPEN_CODES = frozenset((408, 502, 504))
"""Statuses that a gateway answers for a function that may have done its work."""


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
        return sum(attempt.run == run and attempt.scope == scope for attempt in self.failed)


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


def attempt_key(step: Step, number: int) -> str:
    """Where a failed attempt is recorded."""
    return f"{step.attempts}{number}"


def policy_of(definition: graph.Definition, node: graph.Node, failure: Failure) -> tuple[Retry | None, int | None]:
    """The policy that a failure of `node` falls under, and the operation whose own it is."""
    if failure.index >= 0:
        own = node.operations[failure.index].retry
        if own is not None:
            return own, failure.index
    if node.at_most_once:
        return None, None
    return node.retry or definition.retry, None


def wait(policy: Retry | None, error: BaseException, failed: int, *, chance: float, now: float) -> float | None:
    """Seconds until another attempt after `failed` failures, this one included; `None` if there is to be none."""
    if policy is None or failed >= policy.attempts or not policy.covers(error):
        return None
    asked = seconds_of(error.retry_after, now) if isinstance(error, CallError) else None
    return policy.wait(failed, chance=chance, retry_after=asked or 0.0)


def failure_of(step: Step, error: BaseException, *, attempt: int, operation: str = "", index: int = -1) -> Failure:
    """What is recorded of an error."""
    text = _sound("".join(traceback.format_exception(error)))
    code = error.code if isinstance(error, CallError) else 0
    return Failure(
        node=step.position.path,
        error_type=type(error).__name__,
        message=_message(error)[:_LONGEST_MESSAGE],
        operation=operation,
        attempt=attempt,
        traceback=text[-_LONGEST_TRACEBACK:],
        hint=error.hint if isinstance(error, FaasflowError) else "",
        index=index,
        code=code,
        is_open=isinstance(error, TransportError | NodeTimeoutError) or code in _OPEN_CODES,
    )


def _message(error: BaseException) -> str:
    try:
        return _sound(str(error))
    except Exception as broken:  # that of the handler's own class
        return f"(str() of it failed with {type(broken).__name__})"


def _sound(text: str) -> str:
    """`text` as it can be stored: the name of a file may hold what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()
