"""What is set of the logs: how much is written, and in which form."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from faasflow.config.reader import Reader

Choice = TypeVar("Choice", bound=StrEnum)


class LogLevel(StrEnum):
    """The least serious records that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line of the log looks: for people, or for programs."""

    TEXT = "text"
    JSON = "json"


def log_settings(environ: Mapping[str, str]) -> tuple[LogLevel, LogFormat]:
    """The level and the form, for who is no flow but writes a log all the same. `ConfigError` for what cannot be
    understood."""
    read = Reader(environ)
    found = log_level(read), log_format(read)
    if read.problems:
        raise read.problems[0]
    return found


def log_level(read: Reader) -> LogLevel:
    """`log_level`, of any case."""
    return _choice(read, "log_level", LogLevel.INFO)


def log_format(read: Reader) -> LogFormat:
    """`log_format`, of any case."""
    return _choice(read, "log_format", LogFormat.TEXT)


def _choice(read: Reader, name: str, default: Choice) -> Choice:
    text = read.text(name, default.value)
    choices = type(default)
    if text.lower() in [*choices]:
        return choices(text.lower())
    *others, last = (repr(choice.value) for choice in choices)
    read.refuse(name, text, f"{', '.join(others)} or {last}")
    return default
