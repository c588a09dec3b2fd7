"""A gateway in a process of its own, and what tests look at from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support import free_port, wait_until

ROOT = Path(__file__).parents[2]


class GatewayProcess:
    """`python -m faasflow.local FOLDER`; what it prints goes to a file, so that nothing blocks."""

    def __init__(self, folder: Path, *options: str) -> None:
        if "--port" not in options:
            options = ("--port", str(free_port()), *options)
        self.url = f"http://127.0.0.1:{options[options.index('--port') + 1]}"
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "faasflow.local", str(folder), *options]
        with self.output.open("wb") as output:
            self._child = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> GatewayProcess:
        wait_until(lambda: "\nready\n" in self.printed or self.exit_code is not None, "the gateway says ready")
        assert self.exit_code is None, self.printed
        return self

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def wait(self) -> int:
        return self._child.wait(timeout=20)

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def end(self) -> None:
        if self.exit_code is None:
            self._child.kill()
        self._child.wait()


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
