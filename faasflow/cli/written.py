"""Lines that functions write, taken apart and made short for people: when, which node, what. Pure."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Any, Self

from faasflow.naming import readable_path

LEVELS = ("debug", "info", "warning", "error")

_VALUE = r'("(?:[^"\\]|\\.)*"|\S+)'
_TEXT = re.compile(
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    rf"(?:flow={_VALUE} request={_VALUE} (?:node={_VALUE} attempt=(\d+) )?)?([\w.$<>-]+):(?: (.*))?"
)
_PRINTED = ("stdout", "stderr")
_ENGINE = "faasflow."


@dataclass(frozen=True, slots=True)
class Written:
    """A line of a process. Without a `logger` it is no line of a flow's log, and all of it is `text`."""

    text: str
    level: str = "INFO"
    logger: str = ""
    request_id: str = ""
    node: str = ""
    attempt: int = 1

    @classmethod
    def of(cls, line: str) -> Self:
        """What a line says, in either form of a flow's log, or anything else that a process may write."""
        found = _TEXT.fullmatch(line)
        if found is None:
            return cls._of_json(line) if line.startswith("{") else cls(line)
        level, _, request, node, attempt, logger, text = found.groups()
        return cls(text or "", level, logger, _bare(request), _bare(node), int(attempt or 1))

    @classmethod
    def _of_json(cls, line: str) -> Self:
        row = _json(line)
        if not isinstance(row, dict) or not {"level", "logger", "message"} <= row.keys():
            return cls(line)
        text = "\n".join(str(row[name]) for name in ("message", "traceback") if row.get(name))
        attempt = row.get("attempt")
        return cls(
            text,
            str(row["level"]).upper(),
            str(row["logger"]),
            str(row.get("request", "")),
            str(row.get("node", "")),
            attempt if isinstance(attempt, int) else 1,
        )

    @property
    def is_printed(self) -> bool:
        """Whether it was printed, and not logged."""
        return not self.logger or self.logger in _PRINTED

    @property
    def is_of_engine(self) -> bool:
        """Whether this package logged it, and not the code of the function."""
        return self.logger.startswith(_ENGINE)

    @property
    def weight(self) -> int:
        """Its level as a number of `logging`."""
        return logging.getLevelNamesMapping().get(self.level, logging.INFO)

    @property
    def place(self) -> str:
        """The node that wrote it, with its attempt from the second on; empty outside of nodes."""
        again = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        return f"{readable_path(self.node)}{again}" if self.node else ""

    def introduced(self, text: str) -> str:
        """`text`, a line of this; of what was logged behind who logged it, and behind its level where that is not the
        usual one."""
        if self.is_printed:
            return text
        level = f"{self.level} " if self.level != "INFO" else ""
        return f"{level}{self.logger}: {text}"


def _bare(value: str | None) -> str:
    if not value or not value.startswith('"'):
        return value or ""
    found = _json(value)
    return found if isinstance(found, str) else value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
