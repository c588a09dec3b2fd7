"""Files and folders that nobody but their owner may read, whatever the umask says."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_OWNER_ONLY = 0o600


def make_private_folder(path: Path | str) -> None:
    """Make a folder, and those above it that are missing, with mode 0700. `PermissionError` if it is, in a folder that
    all users share such as /tmp, one that somebody else made: who made it first could read what is put there."""
    folder = Path(path)
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_private_folder(folder.parent)
        with suppress(FileExistsError):  # made at this moment; it may also be removed again, as the next line tells
            folder.mkdir(mode=0o700)
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    above, own = folder.parent.stat(), folder.lstat()
    if above.st_mode & stat.S_ISVTX and (own.st_uid != os.getuid() or stat.S_ISLNK(own.st_mode)):
        raise PermissionError(f"{str(folder)!r} was made by somebody else in a folder that all users share")


def make_private_file(path: Path | str) -> None:
    """Make an empty file with mode 0600, unless it is there."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _OWNER_ONLY))


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: a file that is made gets mode 0600."""
    return os.open(path, flags, _OWNER_ONLY)
