"""Data in files below one folder, for one machine: large values without an object store. Each has a file, which begins
with a line about it and ends with the value itself.

Everything lies in a folder of the store's own inside the one it is given: the file of a request's key is
`<folder>/faasflow-data/<flow>/<request>/<key>`. A name that a file system might not take as it is, or not tell from
another, is shortened to what can be read of it and a hash: any key fits, none leads out of the folder. A value is
written beside its place, brought to the disk and then moved there: a file is whole or not there, whatever ends the
process or the machine.

Only what this store made is removed: a file whose first line names the key, one with the name of an unfinished write,
and a folder that is empty then. What a killed process leaves behind goes with the rest of its request. Former versions
had no folder of their own; what they wrote is still read and removed where they put it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from faasflow.errors import KeyNotFoundError, StoreCorruptError, StoreError, StoreUnavailableError
from faasflow.private import make_private_file, make_private_folder, private_opener
from faasflow.stores.base import BaseDataStore

_ROOT = "faasflow"
_OWN = "faasflow-data"
_OUTSIDE = "+/+"  # where keys are that belong to no request; no flow has this name
_UNFINISHED = re.compile(r"\.(faasflow-)?[0-9a-f]{32}")
_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,127}")
_HEADER = re.compile(rb'faasflow data 1 [0-9a-f]{64} (".*")\n')
_LONGEST_HEADER = 1024 * 1024
_TRIES = 100

_SPACE = "Free some space on its disk."
_RIGHTS = "Make the folder writable for this user, or name another one."
_HINTS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOTDIR: _RIGHTS,
    errno.EEXIST: _RIGHTS,
}


class FileDataStore(BaseDataStore):
    """A data store inside the folder `folder`, made when it is missing, which may hold other things. Any number
    of processes of one user may share it."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._former = Path(folder).absolute()
        self._folder = self._former / _OWN

    def init(self) -> None:
        with self._errors():
            make_private_folder(self._folder)
            probe = self._folder / _unfinished_name()
            make_private_file(probe)
            probe.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        with self._errors():
            path, former = self._paths(key)
            for place in [path, former] if _key_in(former) == key else [path]:
                with suppress(FileNotFoundError), place.open("rb") as file:
                    return _value(file, key)
        raise KeyNotFoundError(key)

    def set(self, key: str, value: bytes) -> None:
        with self._errors():
            path = self._paths(key)[0]
            for _ in range(_TRIES):
                # A cleanup at this moment may take the folder away.
                with suppress(FileNotFoundError):
                    self._make(path.parent)
                    return _write(path, _header(key, value), value)
            raise StoreUnavailableError(f"The folder {str(path.parent)!r} is removed again and again.")

    def delete(self, key: str) -> None:
        with self._errors():
            for path in self._paths(key):
                if _key_in(path) == key:
                    path.unlink(missing_ok=True)

    def list(self, prefix: str) -> Sequence[str]:
        with self._errors():
            return sorted({key for key, _ in self._files(prefix)})

    def clear(self, prefix: str) -> None:
        with self._errors():
            for folder in self._folders(prefix):
                _remove(folder, prefix, is_own=folder.is_relative_to(self._folder))

    def close(self) -> None:
        pass

    def _paths(self, key: str) -> Sequence[Path]:
        """Where the value of `key` is, and where a former version put it."""
        folder, rest = _place(key)
        return [root / (folder or _OUTSIDE) / _file_name(rest) for root in (self._folder, self._former)]

    def _files(self, prefix: str) -> Iterator[tuple[str, Path]]:
        """The keys that start with `prefix`, with their files."""
        for folder in self._folders(prefix):
            for path in _inside(folder):
                key = _key_in(path)
                if key is not None and key.startswith(prefix):
                    yield key, path

    def _folders(self, prefix: str) -> Sequence[Path]:
        folder, _ = _place(prefix)
        if folder is not None:
            return [self._folder / folder, self._former / folder]
        # Of all requests: only those in the own folder, as the other one may hold anything.
        return [request for flow in _inside(self._folder) for request in _inside(flow)]

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            make_private_folder(folder)
            _sync(folder.parent)
            _sync(self._folder)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except OSError as exc:
            raise StoreUnavailableError(
                f"The data folder {str(self._former)!r} cannot be used now: {exc.strerror or exc}.",
                hint=_HINTS.get(exc.errno or 0, "Look at its disk."),
            ) from exc


def _place(text: str) -> tuple[str | None, str]:
    """The folder of the request that every key which starts with `text` belongs to, if there is one, and the rest."""
    match text.split("/", 3):
        case [root, flow, request, rest] if root == _ROOT:
            return f"{_file_name(flow)}/{_file_name(request)}", rest
    return None, text


def _inside(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _file_name(text: str) -> str:
    """A name for `text` and nothing else, even where capital letters count as small ones."""
    if _PLAIN.fullmatch(text):
        return text
    readable = re.sub(r"[^a-z0-9-]+", "_", text.lower())[:64]
    return f"{readable}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def _unfinished_name() -> str:
    return f".faasflow-{uuid4().hex}"


def _header(key: str, value: bytes) -> bytes:
    return f"faasflow data 1 {hashlib.sha256(value).hexdigest()} {json.dumps(key)}\n".encode()


def _value(file: BinaryIO, key: str) -> bytes:
    header = file.readline()
    # Of a size that is known, a value is read without a copy.
    value = file.read(os.fstat(file.fileno()).st_size - file.tell())
    if header != _header(key, value):
        raise StoreCorruptError(f"{file.name!r} is not what was stored under {key!r}: it was changed, or damaged.")
    return value


def _key_in(path: Path) -> str | None:
    """The key whose value `path` holds; None if it is not a file of ours, or not there any more."""
    try:
        # What is foreign may be anything: a link, or a pipe that nobody writes to.
        if _UNFINISHED.fullmatch(path.name) or not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            found = _HEADER.fullmatch(file.readline(_LONGEST_HEADER))
        return json.loads(found[1]) if found else None
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return None


def _remove(folder: Path, prefix: str, *, is_own: bool) -> None:
    """Remove the values in the folder of a request whose keys start with `prefix`, and what writes left unfinished if
    that is all of the request. A folder that holds nothing then goes too if it `is_own` or had something of ours."""
    is_whole = not _place(prefix)[1]
    removed = is_own and is_whole
    for path in _inside(folder):
        key = _key_in(path)
        is_unfinished = is_whole and _UNFINISHED.fullmatch(path.name) and path.is_file()
        if is_unfinished or (key is not None and key.startswith(prefix)):
            path.unlink(missing_ok=True)
            removed = True
    if removed:
        # It is not empty if somebody else put something there, or writes at this moment.
        with suppress(OSError):
            folder.rmdir()


def _write(path: Path, *content: bytes) -> None:
    new = path.with_name(_unfinished_name())
    try:
        with open(new, "xb", opener=private_opener) as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Bring the names in `folder` to the disk, where its file system does that."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
