"""What many tests need: waiting without guessing how long, and ports that nobody else is using."""

from __future__ import annotations

import itertools
import os
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# The kernel hands out ports for outgoing connections from 32768 on; a server below is never in their way.
_FIRST_PORT, _LAST_PORT = 10_000, 32_767


def wait_until(condition: Callable[[], T | None], what: str, timeout: float = 20.0) -> T:
    """The first true value of `condition`, asked again and again. An `OSError`, such as a refused connection, counts as
    not yet. Fails with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    for pause in itertools.chain((0.002, 0.005, 0.01, 0.02, 0.05), itertools.repeat(0.1)):
        try:
            value, reason = condition(), ""
        except OSError as exc:
            value, reason = None, f" Last error: {exc!r}."
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {timeout:g} s in vain for: {what}.{reason}")
        time.sleep(pause)
    raise AssertionError("unreachable")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, from this test process's own share of the ports; another one at
    each call."""
    port = next(port for port in _candidates if port not in _given and _is_free(port))
    _given.add(port)
    return port


def _share() -> Callable[[], int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(_FIRST_PORT + worker, _LAST_PORT + 1, count)
    return lambda: random.choice(ports)


_candidates = iter(_share(), None)
_given: set[int] = set()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
