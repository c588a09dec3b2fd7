"""Options of the TCP sockets of every client: they notice within seconds that a peer vanished without a word.

A peer that loses its network, its machine or its address sends neither FIN nor RST. Without these options a connection
that was kept open waits for its retransmissions, for minutes, before the call fails.

The peer's kernel answers the probes, so a call that waits long for its answer on a healthy connection is not cut.
"""

from __future__ import annotations

import errno
import socket

LONGEST_SILENCE = 10.0
"""Seconds until a connection breaks whose peer acknowledges neither what was sent nor a probe."""

LONGEST_IDLE = 5.0
"""Seconds that a connection is kept for the next call. After that a new one is opened, to an address resolved anew."""

_IDLE_UNTIL_PROBE = 5
_BETWEEN_PROBES = 1
_LOST_PROBES = 5


def _tcp(name: str, value: int) -> list[tuple[int, int, int]]:
    # Which options there are depends on the system.
    option = getattr(socket, name, None)
    return [] if option is None else [(socket.IPPROTO_TCP, option, value)]


def socket_options(silence: float = LONGEST_SILENCE) -> list[tuple[int, int, int]]:
    """What `socket.setsockopt` takes, as level, option and value; also urllib3's `socket_options`. The connection
    breaks after `silence` seconds in which nothing is acknowledged."""
    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *(_tcp("TCP_KEEPIDLE", _IDLE_UNTIL_PROBE) or _tcp("TCP_KEEPALIVE", _IDLE_UNTIL_PROBE)),
        *_tcp("TCP_KEEPINTVL", _BETWEEN_PROBES),
        *_tcp("TCP_KEEPCNT", _LOST_PROBES),
        *_tcp("TCP_USER_TIMEOUT", int(silence * 1000)),
    ]


SOCKET_OPTIONS = tuple(socket_options())
"""The options of a connection that may wait long for its answer, such as one to a function."""


def watch(connection: socket.socket, silence: float = LONGEST_SILENCE) -> None:
    """Set the options on a TCP socket."""
    for level, option, value in socket_options(silence):
        connection.setsockopt(level, option, value)


def is_silence(error: BaseException | None) -> bool:
    """Whether the kernel gave up on a peer that acknowledged nothing; not a time limit of this side's own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
            return True
        error = error.__cause__ or error.__context__
    return False
