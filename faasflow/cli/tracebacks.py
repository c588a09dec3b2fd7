"""What of a recorded traceback is of interest to those who wrote the handler."""

from __future__ import annotations

import re

LONGEST = 12

# It may have been recorded on another machine, where this package lies elsewhere.
_ENGINE = re.compile(r"[/\\]faasflow[/\\](?:engine|runtime|transport|stores|logs|tracing|[a-z]+\.py)\b")


def own_frames(traceback: str) -> list[str]:
    """The last lines of a traceback that show code of the handler, and not of this package."""
    lines: list[str] = []
    is_own = False
    for line in traceback.splitlines():
        if line.startswith("  File "):
            is_own = not _ENGINE.search(line.partition('", line ')[0])
        elif not line.startswith(" "):
            is_own = False
        if is_own:
            lines.append(line.removeprefix("  "))
    return lines[-LONGEST:]
