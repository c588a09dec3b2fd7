"""A gateway of one's own for one run: on a free port, with a state folder that goes when it ends."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from faasflow.cli.remote import SIGNATURE, Remote, Signer
from faasflow.config import HMAC_SECRET
from faasflow.local import Gateway, Stack

_KEPT_LINES = 200
_OWN = "faasflow: "


class Logs:
    """The latest lines of every function, and who is told of them: `on_line` of what a function wrote itself,
    `on_notice` of what the gateway says about one. `notice` is the last of these."""

    def __init__(self, on_notice: Callable[[str], None], on_line: Callable[[str, str], None]) -> None:
        self.notice = ""
        self._on_notice = on_notice
        self._on_line = on_line
        self._lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_KEPT_LINES))

    def take(self, function: str, text: str) -> None:
        self._lines[function].append(text)
        if not text.startswith(_OWN):
            self._on_line(function, text)
            return
        notice = f"{function}: {text.removeprefix(_OWN)}"
        if notice != self.notice:
            self.notice = notice
            self._on_notice(notice)

    def tail(self, function: str, count: int) -> list[str]:
        """The last lines that a function wrote itself."""
        return [line for line in self._lines[function] if not line.startswith(_OWN)][-count:]


@dataclass(frozen=True, slots=True)
class Session:
    """A gateway that serves. `remote` calls its functions, `calls` makes such calls beside the main thread."""

    remote: Remote
    calls: ThreadPoolExecutor
    logs: Logs


@contextmanager
def session(
    stack: Stack, state_dir: Path | None, *, on_notice: Callable[[str], None], on_line: Callable[[str, str], None]
) -> Iterator[Session]:
    """A gateway for the functions of a stack, which start when they are called. At the end, however it comes, all of
    them are ended at once, and a state folder that was not given is removed."""
    with ExitStack() as undo:
        shield = undo.enter_context(_ended_by_signals())
        folder = state_dir or Path(undo.enter_context(_temporary_folder()))
        logs = Logs(on_notice, on_line)
        gateway = Gateway(stack, state_dir=folder, port=0, on_line=logs.take)
        calls = ThreadPoolExecutor(1, thread_name_prefix="call")
        undo.callback(calls.shutdown)
        undo.callback(gateway.stop, grace=0)
        undo.callback(gateway.kill_functions)
        undo.callback(shield)
        remote = Remote(gateway.url, signer=Signer(SIGNATURE, (folder / "secrets" / HMAC_SECRET).read_bytes()))
        gateway.start()
        yield Session(remote, calls, logs)


@contextmanager
def _ended_by_signals() -> Iterator[Callable[[], None]]:
    """Let SIGTERM and a closed terminal end the program as Ctrl-C does, through everything that cleans up. What this
    gives makes all three be ignored from then on: cleaning up is quick, and must not be left half done."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def shield() -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        yield shield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _temporary_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="faasflow-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
