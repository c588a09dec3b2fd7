"""One shell for all console blocks of a page, as a reader has one: `cd`, variables and background jobs last."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support import wait_until

LIMIT = 200.0
GRACE = 20.0
_MARK = "end-of-command"


class Shell:
    """Runs commands in `folder`, with this Python's tools first in the path and `logs` as the home folder."""

    def __init__(self, folder: Path, logs: Path, variables: dict[str, str]) -> None:
        self.logs = logs
        self.started = 0
        self.log = logs / "shell.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "--norc", "--noprofile"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(logs) | variables,
                start_new_session=True,
                text=True,
            )
        assert self.process.stdin is not None
        self.input = self.process.stdin

    def run(self, command: str) -> tuple[int, str]:
        """The exit status of a command and all that it wrote."""
        begin = self.log.stat().st_size
        self._send(f"{{ {command}\n}} </dev/null\nprintf '\\n{_MARK} %s\\n' $?\n")
        found = wait_until(lambda: self._ended(begin), f"the end of {command!r} (with & it runs on)", timeout=LIMIT)
        return int(found[2]), found[1]

    def start(self, command: str) -> Callable[[], str]:
        """Run a command in the background; gives a function for what it wrote so far."""
        self.started += 1
        log = self.logs / f"background-{self.started}.log"
        log.touch()
        self._send(f"{command} </dev/null >{log} 2>&1 &\n")
        return log.read_text

    def close(self) -> None:
        """End what runs in the background as Ctrl-C and a closed terminal would, and then the shell."""
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._send("kill $(jobs -p) 2>/dev/null; wait; exit\n")
            self.process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            self.input.close()
        self.process.wait()

    def _send(self, text: str) -> None:
        self.input.write(text)
        self.input.flush()

    def _ended(self, begin: int) -> re.Match[str] | None:
        output = self.log.read_bytes()[begin:].decode()
        found = re.fullmatch(rf"(.*)\n{_MARK} (\d+)\n", output, re.DOTALL)
        assert found or self.process.poll() is None, f"The shell itself has ended. It said: {output}"
        return found


def _environment(home: Path) -> dict[str, str]:
    tools = Path(sys.executable).parent
    return {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "COLUMNS": "80",
    }
