"""Data in files below one folder, for one machine: large values without an object store. Each has a file, which begins
with a line about it and ends with the value itself.

The file of a request's key is `<folder>/<flow>/<request>/<key>`. A name that a file system might not take as it is, or
not tell from another, is shortened to what can be read of it and a hash: any key fits, none leads out of the folder.
A value is written beside its place, brought to the disk and then moved there: a file is whole or not there, whatever
ends the process or the machine. What a killed process leaves behind goes with the rest of its request or, after half a
cleanup, when the next store is made ready.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from faasflow.errors import KeyNotFoundError, StoreCorruptError, StoreError, StoreUnavailableError
from faasflow.stores.base import BaseDataStore

_ROOT = "faasflow"
_OUTSIDE = "+/+"  # where keys are that belong to no request; no flow has this name
_UNFINISHED = "."
_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,127}")
_HEADER = re.compile(rb'faasflow data 1 [0-9a-f]{64} (".*")\n')
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
    """A data store in the folder `folder`, which is made when it is missing; any number of processes may share it."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder).absolute()

    def init(self) -> None:
        with self._errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / _unfinished_name()
            probe.touch()
            probe.unlink(missing_ok=True)
            for left in self._folder.glob(f"{_UNFINISHED}*/"):
                shutil.rmtree(left, ignore_errors=True)  # a cleanup did not come to its end, or is under way

    def get(self, key: str) -> bytes:
        with self._errors():
            try:
                with self._path(key).open("rb") as file:
                    return _value(file, key)
            except FileNotFoundError as exc:
                raise KeyNotFoundError(key) from exc

    def set(self, key: str, value: bytes) -> None:
        with self._errors():
            path = self._path(key)
            for _ in range(_TRIES):
                # A cleanup at this moment may take the folder away.
                with suppress(FileNotFoundError):
                    self._make(path.parent)
                    return _write(path, _header(key, value), value)
            raise StoreUnavailableError(f"The folder {str(path.parent)!r} is removed again and again.")

    def delete(self, key: str) -> None:
        with self._errors():
            self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Sequence[str]:
        with self._errors():
            return sorted(key for key, _ in self._files(prefix))

    def clear(self, prefix: str) -> None:
        with self._errors():
            folder, rest = _place(prefix)
            if folder is not None and not rest:
                return self._remove(self._folder / folder)
            for _, path in self._files(prefix):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        pass

    def _path(self, key: str) -> Path:
        folder, rest = _place(key)
        return self._folder / (folder or _OUTSIDE) / _file_name(rest)

    def _files(self, prefix: str) -> Iterator[tuple[str, Path]]:
        """The keys that start with `prefix`, with their files."""
        for folder in self._folders(prefix):
            for path in _inside(folder):
                key = None if path.name.startswith(_UNFINISHED) else _key_in(path)
                if key is not None and key.startswith(prefix):
                    yield key, path

    def _folders(self, prefix: str) -> Sequence[Path]:
        folder, _ = _place(prefix)
        if folder is not None:
            return [self._folder / folder]
        return [request for flow in _inside(self._folder) for request in _inside(flow)]

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                folder.mkdir()
            _sync(folder.parent)
            _sync(self._folder)

    def _remove(self, folder: Path) -> None:
        # It goes at once and whole; only writes that have begun may still land where it is moved.
        doomed = self._folder / _unfinished_name()
        with suppress(FileNotFoundError):
            folder.rename(doomed)
            for _ in range(_TRIES):
                shutil.rmtree(doomed, ignore_errors=True)
                if not doomed.exists():
                    return
            shutil.rmtree(doomed)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except OSError as exc:
            raise StoreUnavailableError(
                f"The data folder {str(self._folder)!r} cannot be used now: {exc.strerror or exc}.",
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
    return f"{_UNFINISHED}{uuid4().hex}"


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
        with path.open("rb") as file:
            found = _HEADER.fullmatch(file.readline())
        return json.loads(found[1]) if found else None
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return None


def _write(path: Path, *content: bytes) -> None:
    new = path.with_name(_unfinished_name())
    try:
        with new.open("xb") as file:
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
