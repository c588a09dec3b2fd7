"""Sends the spans of jaeger-client from a thread of its own, so that nobody who makes one waits for the network.

The library's own reporter loses bursts, batches over the size of a datagram, and everything after a fork, and can be
closed on its main thread only.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  # else a name's first look-up imports it, and a fork meanwhile breaks it in the child
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaeger_client.reporter import BaseReporter
from jaeger_client.span import Span
from jaeger_client.thrift import make_process

logger = logging.getLogger(__name__)

_CAPACITY = 10_000
_BATCH = 200
_GATHER = 0.2  # seconds that the first span of a batch waits for others
_SILENCE = 60.0  # seconds between two lines about spans that were lost

Process = Any
"""Who makes spans, in jaeger-client's Thrift definitions."""


class Sender(Protocol):
    """Speaks to a server, in one thread."""

    def send(self, spans: Sequence[Span], process: Process) -> tuple[int, str]:
        """Send finished spans; how many of them were lost, and why. May take some seconds."""


class Reporter(BaseReporter):
    """Takes finished spans and sends them soon, with what `open_sender` makes. Takes 10,000 ahead of what is sent; the
    rest is lost, as is what a server does not take, and told in the log. After a fork the child sends its own only."""

    def __init__(self, open_sender: Callable[[], Sender]) -> None:
        self._open_sender = open_sender
        self._process: Process = None
        self._begin()
        again = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (begin := again()) and begin())

    def set_process(self, service_name: str, tags: Any, max_length: int) -> None:
        known = {name: value for name, value in tags.items() if value}
        self._process = make_process(service_name, known, max_length)

    def report_span(self, span: Span) -> None:
        with self._changed:
            if len(self._queue) >= _CAPACITY or self._is_closed:
                self._lost += 1
                return
            self._queue.append(span)
            self._reported += 1
            if self._thread is None:
                self._start()
            elif len(self._queue) in (1, _BATCH):
                self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was reported is sent or lost; False if that took longer than `timeout` seconds."""
        with self._changed:
            wanted = self._reported
            self._hurries += 1
            self._changed.notify_all()
            is_done = self._changed.wait_for(lambda: self._handled >= wanted, timeout)
            self._hurries -= 1
            return is_done

    def shut_down(self, timeout: float) -> None:
        """`flush`, and take no more."""
        with self._changed:
            self._is_closed = True
        self.flush(timeout)
        self._tell(now=True)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Span] = deque()
        self._thread: threading.Thread | None = None
        self._reported = self._handled = self._hurries = self._lost = 0
        self._reason = "too many at a time"
        self._silent_until = 0.0
        self._is_closed = False

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            self._thread.start()

    def _run(self) -> None:
        sender = self._open_sender()
        while spans := self._next():
            lost, reason = self._sent(sender, spans)
            with self._changed:
                self._lost += lost
                self._reason = reason or self._reason
            self._tell()  # before whoever waits in `flush` goes on
            with self._changed:
                self._handled += len(spans)
                self._changed.notify_all()

    def _next(self) -> list[Span]:
        """The next spans to send; none when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closed)
            self._changed.wait_for(lambda: len(self._queue) >= _BATCH or self._hurries or self._is_closed, _GATHER)
            return [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]

    def _sent(self, sender: Sender, spans: Sequence[Span]) -> tuple[int, str]:
        try:
            return sender.send(spans, self._process)
        except Exception as error:  # one bad span must not be the end of all that follow
            return len(spans), type(error).__name__

    def _tell(self, *, now: bool = False) -> None:
        """Say how many spans were lost, now and then."""
        with self._changed:
            time_passed = time.monotonic() >= self._silent_until
            if not self._lost or not (now or time_passed):
                return
            lost, self._lost = self._lost, 0
            self._silent_until = time.monotonic() + _SILENCE
        logger.warning("%d spans were lost: %s.", lost, self._reason)
