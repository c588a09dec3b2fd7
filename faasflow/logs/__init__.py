"""The log of a process: one form for what the engine logs, what a handler logs, and what it prints.

Every line says what its thread works for, as `faasflow.scope` knows it. What is logged is up to whoever logs; of the
libraries that are used here only what is wrong is let through, since some of them would tell the URLs they call.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from faasflow.config import LogFormat, LogLevel
from faasflow.logs.form import Entry, as_json, as_text, shortened
from faasflow.logs.output import Output
from faasflow.scope import current_scope

__all__ = ["configured"]

_QUIET = ("jaeger_tracing", "nats", "opentelemetry", "requests", "urllib3", "waitress", "werkzeug")
_TELL_URLS = ("urllib3.connection",)

logger = logging.getLogger(__name__)


@contextmanager
def configured(level: LogLevel, form: LogFormat) -> Iterator[None]:
    """Within a `with` the records of `logging`, from `level` on, and what is written to `sys.stdout` and `sys.stderr`
    come out in `form`: records on standard error, prints where they were meant to go."""
    output = Output(
        sys.stdout or _nowhere(),
        sys.stderr or _nowhere(),
        form=as_json if form is LogFormat.JSON else as_text,
        marks_all=form is LogFormat.JSON,
    )
    handler = _Handler(output)
    with _streams(output), _levels(logging.getLevelNamesMapping()[level.name]), _thread_ends_logged():
        logging.root.addHandler(handler)
        try:
            yield
        finally:
            logging.root.removeHandler(handler)
            output.close()


def _nowhere() -> TextIO:
    """Stands in for a stream that the process was started without. Python prints nothing there, and raises nothing."""
    return open(os.devnull, "w", encoding="utf-8")


class _Handler(logging.Handler):
    """Hands records on to the output."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.record(_entry(record))
        except Exception:  # a message and its arguments may do anything
            self.handleError(record)


def _entry(record: logging.LogRecord) -> Entry:
    return Entry(
        time=record.created,
        level=record.levelname,
        logger=record.name,
        message=shortened(record.getMessage()),
        traceback=shortened(_traceback(record)),
        scope=current_scope(),
    )


def _traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    lines = traceback.format_exception(error) if error is not None else []
    return "".join([*lines, record.stack_info or ""]).rstrip("\n")


@contextmanager
def _levels(level: int) -> Iterator[None]:
    levels = {"": level} | dict.fromkeys(_QUIET, max(level, logging.WARNING)) | dict.fromkeys(_TELL_URLS, logging.ERROR)
    before = {name: logging.getLogger(name).level for name in levels}
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)
    try:
        yield
    finally:
        for name, own in before.items():
            logging.getLogger(name).setLevel(own)


@contextmanager
def _streams(output: Output) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, output.stdout), cast(TextIO, output.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def _thread_ends_logged() -> Iterator[None]:
    """What ends a thread is told in one record, not in lines on standard error."""

    def log(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            name = ended.thread.name if ended.thread is not None else "?"
            logger.error("Thread %r ended with %s.", name, ended.exc_type.__name__, exc_info=ended.exc_value)

    before, threading.excepthook = threading.excepthook, log
    try:
        yield
    finally:
        threading.excepthook = before
