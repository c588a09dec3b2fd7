"""Calling the code of a handler: what it is given, waiting for what is `async`, and hints at what it gets wrong."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import threading
import types
from collections.abc import Awaitable, Callable
from typing import Any

from faasflow.codec import decode, encode, parameter_of, type_of
from faasflow.engine.guard import user_code
from faasflow.errors import DataError

_CLUELESS = (TypeError, AttributeError, KeyError, IndexError, ValueError)


def call_user_code(code: Callable[..., Any], data: bytes, what: str, *more: Any, left: float = math.inf) -> bytes:
    """`code(data)` with the data as its annotation asks for, and what it returns as bytes. `more` are its other
    arguments; `left` is as in `call`."""
    parameter = parameter_of(code, count=1 + len(more))
    with user_code():
        return encoded_result(code, decode(data, parameter.wanted, what), what, *more, left=left)


def encoded_result(code: Callable[..., Any], value: Any, what: str, *more: Any, left: float = math.inf) -> bytes:
    """What `code` returns for `value`, as bytes."""
    result = with_hint(code, value, *more, left=left)
    try:
        return encode(result, what)
    except DataError as error:
        parameter = parameter_of(code, count=1 + len(more))
        if " bytes. " in error.message and not parameter.is_annotated:
            error.hint = _missing(parameter.name, value)
        raise


def with_hint(code: Callable[..., Any], value: Any, *more: Any, left: float = math.inf) -> Any:
    """`call`, where an error of code that was given bytes for want of an annotation says so."""
    try:
        return call(code, value, *more, left=left)
    except _CLUELESS as error:
        hint = "" if isinstance(error, DataError) else _hint(code, value, error, len(more))
        if hint:
            error.add_note(hint)
        raise


def call(code: Callable[..., Any], *arguments: Any, left: float = math.inf) -> Any:
    """What `code` returns. What an `async` function does is run to its end in the event loop of this thread, within
    `left` seconds: then it is cancelled, which raises `TimeoutError`. Tasks that it leaves behind are cancelled."""
    found = code(*arguments)
    return _awaited(found, left) if inspect.isawaitable(found) else found


def _hint(code: Callable[..., Any], value: Any, error: BaseException, more: int) -> str:
    """Which annotation is missing, if the error comes from code that may have expected other data than bytes."""
    parameter = parameter_of(code, count=1 + more)
    is_about_bytes = isinstance(error, TypeError) and "bytes" in str(error)
    if parameter.is_annotated or not (is_about_bytes or _is_raised_by(code, error)):
        return ""
    return _missing(parameter.name, value)


def _missing(name: str, value: Any) -> str:
    """The annotation that `name`, which was given `value`, may have needed; nothing if `value` is binary."""
    if isinstance(value, bytes) and (meant := type_of(value) if value else dict):
        return f"`{name}` has no annotation, so it is bytes; write `{name}: {meant.__name__}`."
    if isinstance(value, dict) and value and (meant := type_of(next(iter(value.values())))):
        return f"`{name}` has no annotation, so its values are bytes; write `{name}: dict[str, {meant.__name__}]`."
    return ""


def _is_raised_by(code: Any, error: BaseException) -> bool:
    """Whether the error was raised in the frame of the code itself, or of what is written inside of it, such as a
    comprehension; not in what it calls."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    function = inspect.unwrap(getattr(code, "func", code))
    own = getattr(function, "__code__", None)
    return frames is not None and own is not None and _holds(own, frames.tb_frame.f_code)


def _holds(code: types.CodeType, inner: types.CodeType) -> bool:
    nested = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return inner is code or any(_holds(one, inner) for one in nested)


class _Loop:
    """An event loop, which is closed when it is dropped."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def __del__(self) -> None:
        self.runner.close()


class _Loops(threading.local):
    """The event loop of each thread, which ends with it."""

    def __init__(self) -> None:
        self.own = _Loop()


_loops = _Loops()


def _awaited(awaitable: Awaitable[Any], left: float) -> Any:
    context = contextvars.copy_context()
    run = _in_another_thread if _runs_loop() else _in_this_thread
    try:
        return run(awaitable, left, context)
    except asyncio.CancelledError as error:
        raise RuntimeError("The code was cancelled, by itself or by a task of its own.") from error


def _runs_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_this_thread(awaitable: Awaitable[Any], left: float, context: contextvars.Context) -> Any:
    return _loops.own.runner.run(_finished(awaitable, left), context=context)


def _in_another_thread(awaitable: Awaitable[Any], left: float, context: contextvars.Context) -> Any:
    """For a caller that runs an event loop itself, such as a notebook: two cannot run in one thread."""
    found: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            with asyncio.Runner() as runner:
                found.append(runner.run(_finished(awaitable, left), context=context))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="faasflow-async")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


async def _finished(awaitable: Awaitable[Any], left: float) -> Any:
    try:
        async with asyncio.timeout(None if math.isinf(left) else left):
            return await awaitable
    finally:
        await _end_tasks()


async def _end_tasks() -> None:
    """Cancel what was started and not awaited: it would go on in the middle of another request."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
