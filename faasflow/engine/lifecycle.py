"""The states of a request and of a node, and the one table of transitions between a request's states.

Every transition is applied by compare-and-set on the request's record, so each has one winner.
"""

from __future__ import annotations

from enum import StrEnum


class RequestState(StrEnum):
    """Where a request stands."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def has_ended(self) -> bool:
        return self in (RequestState.FINISHED, RequestState.FAILED, RequestState.STOPPED)

    @property
    def outcome(self) -> str:
        """The word that `finally_` is given and `context.state` shows."""
        return _OUTCOMES[self]


class NodeState(StrEnum):
    """Where the execution of a node stands; only an outcome is recorded."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    RETRYING = "RETRYING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


class Command(StrEnum):
    """What can happen to a request."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    FINISH = "finish"
    FAIL = "fail"
    RETRY = "retry"


_OUTCOMES = {
    RequestState.RUNNING: "ongoing",
    RequestState.PAUSED: "ongoing",
    RequestState.FINISHED: "success",
    RequestState.FAILED: "failure",
    RequestState.STOPPED: "stopped",
}

_TRANSITIONS: dict[tuple[RequestState, Command], RequestState] = {
    (RequestState.RUNNING, Command.PAUSE): RequestState.PAUSED,
    (RequestState.RUNNING, Command.RESUME): RequestState.RUNNING,
    (RequestState.RUNNING, Command.STOP): RequestState.STOPPED,
    (RequestState.RUNNING, Command.FINISH): RequestState.FINISHED,
    (RequestState.RUNNING, Command.FAIL): RequestState.FAILED,
    (RequestState.PAUSED, Command.PAUSE): RequestState.PAUSED,
    (RequestState.PAUSED, Command.RESUME): RequestState.RUNNING,
    (RequestState.PAUSED, Command.STOP): RequestState.STOPPED,
    # Pausing starts nothing new; what was running when it came still ends as it would have.
    (RequestState.PAUSED, Command.FINISH): RequestState.FINISHED,
    (RequestState.PAUSED, Command.FAIL): RequestState.FAILED,
    (RequestState.STOPPED, Command.STOP): RequestState.STOPPED,
    (RequestState.FAILED, Command.RETRY): RequestState.RUNNING,
}


def transition(state: RequestState, command: Command) -> RequestState | None:
    """The state that `command` leads to from `state`, the same one if nothing is left to do, `None` if it does not
    apply."""
    return _TRANSITIONS.get((state, command))
