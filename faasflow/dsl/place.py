"""Where in a definition something is written: which DAG an error is about, and which line of the handler."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from faasflow.errors import DefinitionError
from faasflow.naming import is_unicode

_HERE = os.path.dirname(__file__)


@dataclass(eq=False, slots=True)
class Place:
    """The place of one DAG: inside the node or option `name` of the DAG at `outer`, written at the line `where`. The
    flow's DAG is the root; one that is not part of anything yet has neither."""

    outer: Place | None = None
    name: str = ""
    where: str = ""
    is_root: bool = False

    @property
    def label(self) -> str:
        """The way to the DAG, which names it in errors."""
        if self.outer is None:
            return "root" if self.is_root else "new"
        return self.name if self.outer.outer is None else f"{self.outer.label}/{self.name}"

    def chain(self) -> Iterator[Place]:
        """This place and those around it, from the inside out."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.outer

    def error(self, text: str) -> DefinitionError:
        """The error that says `text` of this DAG."""
        return DefinitionError(f"DAG {self.label!r}: {text}")

    def check_text(self, value: Any, call: str, noun: str) -> None:
        """Refuse what is no text, or an empty one."""
        if not isinstance(value, str) or not value:
            raise self.error(f"{call} got {value!r} for {noun}. Give a text that is not empty.")
        if not is_unicode(value):
            raise self.error(f"{call} got {value!a} for {noun}, which is not valid Unicode. Rename it.")


def caller() -> str:
    """The line of the handler that is being run, as `handler.py:12`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == _HERE:
        frame = frame.f_back
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"
