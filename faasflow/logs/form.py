"""How an entry of the log looks: as text for people, or as one JSON object for programs.

Nothing in an entry can look like another one: in text every line of it begins with its level and its fields, and what
would break a line or steer a terminal is written as an escape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from faasflow.scope import Scope

LONGEST = 8_000
"""Characters of a message, a traceback or a printed line. What reads the output of a process may stop at 64 KiB."""

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_BARE = re.compile(r'[\s"=\\]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record or a printed line; `time` is in seconds since the Unix epoch."""

    time: float
    level: str
    logger: str
    message: str
    traceback: str = ""
    scope: Scope | None = None


def as_text(entry: Entry) -> str:
    """Lines of `LEVEL flow=… request=… node=… attempt=… logger: text`, one for each line of message and traceback."""
    fields = (f"{name}={_value(value)}" for name, value in _fields(entry.scope))
    start = " ".join([entry.level, *fields, f"{entry.logger}:"])
    text = "\n".join(part.replace("\r\n", "\n").rstrip("\n") for part in (entry.message, entry.traceback))
    lines = text.rstrip("\n").split("\n")
    return "".join(_escaped(f"{start} {line}").rstrip() + "\n" for line in lines)


def as_json(entry: Entry) -> str:
    """One line with a JSON object."""
    time = datetime.fromtimestamp(entry.time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    shown: dict[str, str | int] = {
        "time": time,
        "level": entry.level.lower(),
        "logger": entry.logger,
        "message": entry.message,
    }
    shown |= dict(_fields(entry.scope))
    if entry.traceback:
        shown["traceback"] = entry.traceback
    return _json(shown) + "\n"


def shortened(text: str) -> str:
    """A text of at most `LONGEST` characters and a note: its beginning and its end."""
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    return f"{text[: LONGEST // 2]} … ({left_out} characters left out) … {text[-LONGEST // 2 :]}"


def _fields(scope: Scope | None) -> Iterator[tuple[str, str | int]]:
    if scope is None:
        return
    yield from (("flow", scope.flow), ("request", scope.request_id))
    if scope.node:
        yield from (("node", scope.node), ("attempt", scope.attempt))


def _value(value: str | int) -> str:
    text = str(value)
    return text if text.isprintable() and text and not _NOT_BARE.search(text) else _json(text)


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
