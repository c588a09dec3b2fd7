"""The standard streams of a process that many threads write to: whole lines only, each with what its thread works for.

What is written in pieces is kept, by thread and stream, until its line ends. A line that does not end is written when
its thread turns to something else or logs a record, when nothing was added to it for a second, and at the end. What
does not pass through `sys.stdout` and `sys.stderr` is not seen here: other processes, code in C, `sys.stdout.buffer`.
"""

from __future__ import annotations

import codecs
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TextIO

from faasflow.logs.form import LONGEST, Entry
from faasflow.scope import Scope, current_scope

_QUIET = 1.0


class Output:
    """Writes entries in a form. `stdout` and `stderr` stand in for the streams of these names."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, form: Callable[[Entry], str], marks_all: bool) -> None:
        self._form = form
        self._marks_all = marks_all
        self._records = stderr
        # One for all: both streams may end in the same pipe. A signal or the garbage collector may print inside.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        self._is_forked = False
        self.stdout = Stream("stdout", stdout, self)
        self.stderr = Stream("stderr", stderr, self)
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._begin_anew
        )

    def record(self, entry: Entry) -> None:
        """Write a record, behind what its thread has begun to print."""
        with self._lock:
            for stream in (self.stdout, self.stderr):
                with suppress(OSError, ValueError):
                    stream.end_line(threading.get_ident())
            _put(self._records, self._form(entry))

    def close(self) -> None:
        """Write what has not ended. The streams go on working."""
        self._closed.set()
        with self._lock, suppress(OSError, ValueError):
            self._end_lines(before=float("inf"))

    def write(self, stream: Stream, text: str) -> None:
        """Add to the line of this thread, and write what ends with it."""
        with self._lock:
            stream.add(text, current_scope(), threading.get_ident())
            if stream.pieces:
                self._watch()

    def flush(self, stream: Stream) -> None:
        """Let the stream send what it has. A line that has not ended is kept: in pieces nobody could read it; but a
        child that was forked may end without another word."""
        with self._lock:
            if self._is_forked:
                self._end_lines(before=float("inf"))
            stream.original.flush()

    def shown(self, entry: Entry) -> str:
        """What is written for a printed line: the line itself where nothing is known of it and nobody minds."""
        return self._form(entry) if self._marks_all or entry.scope is not None else entry.message + "\n"

    def _watch(self) -> None:
        if self._watcher is not None or self._closed.is_set():
            return
        self._watcher = threading.Thread(target=self._end_quiet_lines, name="log", daemon=True)
        try:
            self._watcher.start()
        except RuntimeError:  # the interpreter is ending
            self._watcher = None
            self._end_lines(before=float("inf"))

    def _end_quiet_lines(self) -> None:
        while not self._closed.wait(_QUIET):
            with self._lock:
                with suppress(OSError, ValueError):
                    self._end_lines(before=time.monotonic() - _QUIET)
                if not self.stdout.pieces and not self.stderr.pieces:
                    self._watcher = None
                    return

    def _end_lines(self, *, before: float) -> None:
        for stream in (self.stdout, self.stderr):
            for thread in [thread for thread, piece in stream.pieces.items() if piece.changed <= before]:
                stream.end_line(thread)

    def _begin_anew(self) -> None:
        """In a child: the parent writes what was begun, and its threads are not here."""
        self.stdout.pieces.clear()
        self.stderr.pieces.clear()
        self._closed = threading.Event()
        self._watcher = None
        self._is_forked = True
        self._lock.release()


@dataclass(slots=True)
class _Piece:
    """The beginning of a line."""

    scope: Scope | None
    text: str
    changed: float


class Stream:
    """Stands in for a standard stream; all but writing is left to the original."""

    def __init__(self, name: str, original: TextIO, output: Output) -> None:
        self._name = name
        self._output = output
        self.original = original
        self.pieces: dict[int, _Piece] = {}

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._output.write(self, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._output.flush(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def add(self, text: str, scope: Scope | None, thread: int) -> None:
        """Write the lines that `text` ends, and keep its rest."""
        begun = self.pieces.get(thread)
        if begun is not None and begun.scope != scope:
            self.end_line(thread)
        begun = self.pieces.pop(thread, None)
        *lines, rest = ((begun.text if begun else "") + text).split("\n")
        if len(rest) > LONGEST:
            whole = (len(rest) - 1) // LONGEST * LONGEST
            lines.append(rest[:whole])
            rest = rest[whole:]
        if rest:
            self.pieces[thread] = _Piece(scope, rest, time.monotonic())
        for line in lines:
            self._put(line.removesuffix("\r"), scope)

    def end_line(self, thread: int) -> None:
        """Write what a thread has begun, if it has."""
        begun = self.pieces.pop(thread, None)
        if begun is not None:
            self._put(begun.text, begun.scope)

    def _put(self, line: str, scope: Scope | None) -> None:
        for start in range(0, len(line) or 1, LONGEST):
            part = line[start : start + LONGEST]
            entry = Entry(time=time.time(), level="INFO", logger=self._name, message=part, scope=scope)
            _put(self.original, self._output.shown(entry))


def _put(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, _ESCAPED).decode(encoding))
    stream.flush()


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What a stream cannot encode, as JSON escapes it: in text that reads as well."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_ESCAPED = "faasflow-escaped"
codecs.register_error(_ESCAPED, _escaped)
