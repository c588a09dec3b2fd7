"""The folder that holds everything a gateway keeps: its queue, its secrets and the stores of its flows."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from faasflow.config import HMAC_SECRET
from faasflow.errors import GatewayError
from faasflow.local.stack import STATE_DIR
from faasflow.naming import escape, is_unicode
from faasflow.private import make_private_folder


class StateDir:
    """A state folder that one process owns, from `lock` to `unlock` or its end, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.secrets = self.path / "secrets"
        self._lock: int | None = None

    @property
    def queue(self) -> Path:
        return self.path / "queue.db"

    def flow_store(self, name: str) -> str:
        """The URL of the store of one flow."""
        return "sqlite://" + quote(str(self.path / "flows" / f"{escape(name)}.db"))

    def lock(self) -> None:
        """Make the folder and take it. `GatewayError` if it cannot be made or another gateway has it."""
        if not is_unicode(str(self.path)):  # the URL of a store could not hold it
            raise GatewayError(f"The name of the state folder {str(self.path)!a} must be UTF-8.")
        try:
            is_own = self.path.name == STATE_DIR or not self.path.exists()
            make_private_folder(self.path / "flows")
            self.path.chmod(0o700)  # an earlier version made it with the umask
            if is_own:
                self._keep_out_of_git()
            self._lock = os.open(self.path / "gateway.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self.unlock()
            raise GatewayError(
                f"Another gateway uses the state folder {str(self.path)!r}. Stop it, or choose one with --state-dir."
            ) from exc
        except OSError as exc:
            self.unlock()
            raise GatewayError(f"The state folder {str(self.path)!r} cannot be used: {exc.strerror or exc}.") from exc
        try:
            self._make_secret()
        except OSError as exc:
            self.unlock()
            raise GatewayError(f"The state folder {str(self.path)!r} cannot be used: {exc.strerror or exc}.") from exc

    def unlock(self) -> None:
        """Let the folder go. Calling it again is fine."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _keep_out_of_git(self) -> None:
        """Let git ignore the folder: `git add -A` beside it must not stage secrets and databases. A folder that was
        there before may hold other files, and is left alone."""
        file = self.path / ".gitignore"
        if not file.exists():
            file.write_text("# Written by faasflow: secrets and databases of this machine.\n*\n", encoding="utf-8")

    def _make_secret(self) -> None:
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        file = self.secrets / HMAC_SECRET
        if file.exists():
            return
        fresh = file.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
        fresh.replace(file)  # a crash in between must not leave an empty key
