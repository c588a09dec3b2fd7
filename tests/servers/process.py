"""A real server as a process of this test run: on 127.0.0.1, with its data in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from tests.servers.install import environment
from tests.support import wait_until


class Server(ABC):
    """One server. After `stop` or `kill` it may be started again, on the same ports and with the data that it kept."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves; an `OSError` means not yet."""

    def start(self) -> None:
        """Start it and wait until it serves; fails with the end of its log if it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_ending_with_us(), *self.command()], stdout=log, stderr=log, cwd=self.folder, env=environment()
            )
        try:
            wait_until(lambda: self._has_ended() or self.is_ready(), f"{self.name} to serve", timeout=60.0)
        except AssertionError as exc:
            self.kill()
            raise AssertionError(f"{exc} {self._last_words()}") from exc
        if self._has_ended():
            raise AssertionError(f"{self.name} did not start. {self._last_words()}")

    def stop(self) -> None:
        """End it as an operator would."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            finally:
                self.kill()

    def kill(self) -> None:
        """End it at once, as if the machine had failed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return f"{' '.join(self.command())} said: {' | '.join(lines[-10:])}"


def _ending_with_us() -> list[str]:
    """What makes a server end when this process is killed, where the system can."""
    tool = shutil.which("setpriv")
    return [tool, "--pdeathsig", "KILL"] if tool else []
