"""The line between the engine and user code: whose an error is depends on where it was raised, not on its type.

A store that is away while the engine, or a call of `context`, uses it asks for the delivery to be repeated. The same
error raised by user code itself is a failure of its node like any other, and so is an exception outside `Exception`,
such as `asyncio.CancelledError`. Only what ends the process passes: Ctrl-C, which Python raises in the main thread.
"""

from __future__ import annotations

import threading
from types import TracebackType

from faasflow.errors import StoreUnavailableError

_MARK = "_faasflow_engine"


class UserCodeError(Exception):
    """Carries what user code raised; the engine's own, never seen by handlers."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class _UserCode:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None or isinstance(error, UserCodeError) or hasattr(error, _MARK) or _ends_process(error):
            return
        raise UserCodeError(error) from error


class _EngineCode:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, StoreUnavailableError) or not isinstance(error, Exception | None):
            setattr(error, _MARK, True)


def user_code() -> _UserCode:
    """The time in which user code runs: whatever it raises leaves as a `UserCodeError`, unless that is the engine's or
    ends the process."""
    return _UserCode()


def engine_code() -> _EngineCode:
    """The time in which the engine works in the middle of user code: that a store is away stays the engine's error,
    even where user code catches it and raises it again."""
    return _EngineCode()


def _ends_process(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
