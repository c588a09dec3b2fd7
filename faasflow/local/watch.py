"""Notices that the files of a handler changed, by looking at their times and sizes twice a second."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

INTERVAL = 0.5
_YAML = (".yml", ".yaml")
_SUFFIXES = (".py", *_YAML)
_NAMES = ("requirements.txt",)

Snapshot = Mapping[str, tuple[int, int]]


class Watcher:
    """Calls `on_change(name)` after files of the folder `name` changed, in a thread of its own. A file may stand for a
    folder: then it is looked at, and the YAML files beside it."""

    def __init__(self, folders: Mapping[str, Path], *, on_change: Callable[[str], object]) -> None:
        self._folders = folders
        self._on_change = on_change
        self._ended = threading.Event()
        self._seen = {name: snapshot(folder) for name, folder in folders.items()}
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        """Look from now on; what changed since this was made counts."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Look no more; wait up to `timeout` seconds for an `on_change` under way."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def watch(self, folders: Mapping[str, Path]) -> None:
        """Look at these from now on; what was looked at before goes on as it was. To be called from `on_change`."""
        self._seen = {name: self._seen.get(name, snapshot(folder)) for name, folder in folders.items()}
        self._folders = folders

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL):
            for name in self._changed():
                self._on_change(name)

    def _changed(self) -> list[str]:
        now = {name: snapshot(folder) for name, folder in self._folders.items()}
        changed = [name for name in now if now[name] != self._seen.get(name)]
        self._seen = now
        return changed


def snapshot(folder: Path) -> Snapshot:
    """Time and size of every file of a folder that a handler is made of."""
    found = {}
    for file in _files(folder):
        try:
            status = os.stat(file)
        except FileNotFoundError:
            continue
        found[file] = (status.st_mtime_ns, status.st_size)
    return found


def _files(folder: Path) -> Iterator[str]:
    if folder.is_file():  # a stack file; beside it lie those that it names
        yield from (str(file) for file in folder.parent.iterdir() if file.suffix in _YAML and file.is_file())
        return
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in files:
            if name.endswith(_SUFFIXES) or name in _NAMES:
                yield os.path.join(parent, name)
