"""What of a traceback is of interest to those who wrote the handler: the frames of their own files."""

from __future__ import annotations

import re

LONGEST = 12

# It may have been recorded on another machine, where this package lies elsewhere.
_FOREIGN = re.compile(
    r'"<frozen |"<string>"|[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python3[\w.]*[/\\]'
    r"|[/\\]faasflow[/\\](?:cli|codec|config|dsl|engine|graph|http|local|logs|runtime|stores|testing|tracing|transport)"
    r"[/\\]\w+\.py|[/\\]faasflow[/\\](?:errors|naming|private|scope|sockets)\.py"
)
_FRAME = re.compile(r'\s*File ".*", line \d+')


class FrameFilter:
    """Takes the lines of a traceback one by one, and says which ones to show."""

    def __init__(self) -> None:
        self._depth: int | None = None
        self._is_own = True

    def takes(self, line: str) -> bool:
        """Whether `line` is no frame of another's code, nor a line below such a frame."""
        depth = len(line) - len(line.lstrip())
        if _FRAME.match(line):
            self._depth, self._is_own = depth, not _FOREIGN.search(line.partition('", line ')[0])
        elif self._depth is None or depth <= self._depth:
            self._depth, self._is_own = None, True
        return self._is_own

    @property
    def is_inside(self) -> bool:
        """Whether the last line was that of a frame, or below one."""
        return self._depth is not None


def own_frames(traceback: str) -> list[str]:
    """The last lines of a traceback that show code of the handler, not of libraries and of this package."""
    frames = FrameFilter()
    lines = [line for line in traceback.splitlines() if frames.takes(line) and frames.is_inside]
    return [line.removeprefix("  ") for line in lines][-LONGEST:]
