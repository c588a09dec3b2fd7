"""waitress with limits for slow, half-open and very many connections: those without progress are closed, oldest first.

One on which a request is worked on is only closed if its client takes no answer. Health is answered by threads of its
own.
"""

from __future__ import annotations

import errno
import json
import logging
import resource
import time
from collections.abc import Iterable
from typing import Any

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge  # type: ignore[import-untyped]

from faasflow.engine.callback import REQUEST_ID_HEADER

logger = logging.getLogger(__name__)

HEALTH = ("/_/health", "/healthz")
HEADER_TIMEOUT = 10.0
BODY_TIMEOUT = 60.0
BODY_IDLE_TIMEOUT = 20.0
SEND_IDLE_TIMEOUT = 60.0
DEAF_AFTER = 5.0
MOST_CONNECTIONS = 1000
MOST_OF_A_PEER = 500

_SIGNATURES = {"X_HUB_SIGNATURE", "X_FAAS_FLOW_SIGNATURE"}
_HEALTH_THREADS = 2
_LOG_PERIOD = 60.0
_ACCEPT_PAUSE = 0.5
_LONGEST_LINE = 64 * 1024


class _Json(Error):  # type: ignore[misc]
    """An error in the form that all errors of a flow have."""

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        text = json.dumps({"error": self.body, "request_id": "", "hint": ""})
        return f"{self.code} {self.reason}", [("Content-Type", "application/json")], text.encode()


class _TooLargeError(_Json, RequestEntityTooLarge):  # type: ignore[misc]
    pass


class _BadRequestError(_Json, BadRequest):  # type: ignore[misc]
    pass


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Bounds the body, to the byte: the adjustments say how much is taken, and how much without a signature. Refuses a
    request id that is given twice: joined, as headers are, the two are another id."""

    adj: Any
    _most: float = float("inf")
    _repeats_id = False

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        names = [line.partition(b":")[0].lower() for line in header_plus.split(b"\r\n")]
        self._repeats_id = names.count(REQUEST_ID_HEADER.lower().encode()) > 1
        unsigned = self.adj.max_unsigned_body
        is_unsigned = unsigned is not None and not _SIGNATURES & self.headers.keys()
        self._most = min(self.adj.max_body, unsigned) if is_unsigned else self.adj.max_body

    def received(self, data: bytes) -> int:
        taken = int(super().received(data))
        if isinstance(self.error, RequestEntityTooLarge) or (self.error is None and self._is_too_large()):
            self._refuse(_TooLargeError(self._limit_text()))
        elif self.error is None and self._repeats_id:
            self._refuse(_BadRequestError(f"The header {REQUEST_ID_HEADER} is given more than once. Send it once."))
        elif self.error is None and self._is_padded():
            self._refuse(_BadRequestError("A line between the chunks of the body is too long."))
        return taken

    def _is_too_large(self) -> bool:
        size = len(self.body_rcv) if self.chunked and self.body_rcv is not None else self.content_length
        return bool(size > self._most)

    def _is_padded(self) -> bool:
        """Whether what is no body keeps growing: waitress holds it in memory, and copies it each time."""
        rest = self.body_rcv
        return self.chunked and rest is not None and len(rest.control_line) + len(rest.trailer) > _LONGEST_LINE

    def _refuse(self, error: Exception) -> None:
        self.error = error
        self.completed = True
        self.expect_continue = False  # the caller keeps its body

    def _limit_text(self) -> str:
        if self._most < self.adj.max_body:
            return f"A body without a signature may have {self._most} bytes."
        return f"The body exceeds max_body of {self.adj.max_body} bytes."


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows since when a request arrives on it, and since when its client takes no answer."""

    parser_class = Parser
    began: float | None = None
    _stuck: tuple[float, float] | None = None  # since when, and what the last activity was then

    def received(self, data: bytes) -> bool:
        if self.began is None:
            self.began = time.time()
        taken = bool(super().received(data))
        if self.request is None:
            self.began = None
        return taken

    @property
    def is_at_work(self) -> bool:
        return bool(self.requests or self.total_outbufs_len)

    def is_overdue(self, now: float) -> bool:
        """Whether a request has been arriving for too long, or nothing of an answer been taken. To be asked often."""
        return self._is_slow(now) or self.deaf_for(now) > SEND_IDLE_TIMEOUT

    def _is_slow(self, now: float) -> bool:
        if self.request is None or self.began is None or self.requests:
            return False
        if not self.request.headers_finished:
            return now - self.began > HEADER_TIMEOUT
        return now - self.began > BODY_TIMEOUT or now - self.last_activity > BODY_IDLE_TIMEOUT

    def deaf_for(self, now: float) -> float:
        """For how many seconds bytes have been waiting for the client of which none was sent, as far as was asked."""
        if not self.total_outbufs_len:
            self._stuck = None
        elif self._stuck is None or self._stuck[1] != self.last_activity:
            self._stuck = now, self.last_activity
        return now - self._stuck[0] if self._stuck is not None else 0.0


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """Takes connections. When there are too many, or too many of one peer, the one that has been idle for the longest
    is closed; if all are at work, the new one."""

    channel_class = Channel

    def __init__(self, *args: Any, **options: Any) -> None:
        # Before a connection can come.
        self.health_dispatcher = ThreadedTaskDispatcher()
        self._reported = float("-inf")
        self._resume = 0.0
        super().__init__(*args, **options)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)
        self.most_of_a_peer = min(MOST_OF_A_PEER, self.most)
        self.health_dispatcher.set_thread_count(_HEALTH_THREADS)

    def readable(self) -> bool:
        return bool(super().readable()) and time.monotonic() >= self._resume

    def add_task(self, task: Channel) -> None:
        is_health = bool(task.requests) and getattr(task.requests[0], "path", "") in HEALTH
        (self.health_dispatcher if is_health else self.task_dispatcher).add_task(task)

    def handle_accept(self) -> None:
        try:
            accepted = self.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._report("There are no file descriptors left for new connections.")
                self._make_room(self.active_channels.values())
                self._resume = time.monotonic() + _ACCEPT_PAUSE
            return
        if accepted is None:
            return
        connection, address = accepted
        peer = address[0]
        channels = [*self.active_channels.values()]
        of_peer = [channel for channel in channels if channel.addr[0] == peer]
        for crowd, most in ((of_peer, self.most_of_a_peer), (channels, self.most)):
            if len(crowd) >= most and not self._make_room(crowd):
                self._report(f"{len(crowd)} connections are at work; the next one from {peer} is closed.")
                connection.close()
                return
        try:
            self.set_socket_options(connection)
            self.channel_class(self, connection, address, self.adj, map=self._map)
        except OSError:  # the other side has closed it already
            connection.close()

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        for channel in [*self.active_channels.values()]:
            if channel.is_overdue(now):
                # At once: who takes nothing is never ready to be written to, which is when waitress would close it.
                channel.handle_close()

    def _make_room(self, channels: Iterable[Channel]) -> bool:
        """Close the connection that has been idle for the longest, else one whose client takes no answer; False if all
        are at work."""
        now, crowd = time.time(), [*channels]
        idle = [channel for channel in crowd if not channel.is_at_work]
        idle = idle or [channel for channel in crowd if channel.deaf_for(now) > DEAF_AFTER]
        if not idle:
            return False
        oldest = min(idle, key=lambda channel: (channel.request is None, channel.began or channel.last_activity))
        oldest.handle_close()
        return True

    def _report(self, text: str) -> None:
        if time.monotonic() - self._reported > _LOG_PERIOD:
            self._reported = time.monotonic()
            logger.warning("%s This is said once a minute.", text)
