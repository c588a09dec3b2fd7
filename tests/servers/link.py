"""A network of its own behind a virtual cable: a peer in it can vanish without FIN and RST, as a machine that loses its
power does, and come back at another address. Needs Linux, root, and `ip` from iproute2."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


class Link:
    """A network namespace, this side's end of the cable to it, and the addresses that it has."""

    def __init__(self) -> None:
        self._name = f"ff{random.randrange(16**8):08x}"
        self._net = f"10.{random.randrange(128, 250)}.{random.randrange(256)}"
        self._addresses: list[str] = []
        self._opened = ExitStack()
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Link:
        assert shutil.which("ip"), "The program 'ip' is missing. Install the package iproute2."
        # A namespace is of a thread: this one lives in it, and whatever it makes stays there.
        with ExitStack() as opened:
            self._inside = opened.enter_context(ThreadPoolExecutor(1))
            descriptor = self.inside(self._unshare)
            opened.callback(os.close, descriptor)
            peer, netns = f"{self._name}p", f"/proc/{os.getpid()}/fd/{descriptor}"
            _ip(f"link add {self._name} type veth peer name {peer} netns {netns}")
            opened.callback(_ip, f"link del {self._name}")
            _ip(f"addr add {self._net}.1/24 dev {self._name}")
            _ip(f"link set {self._name} up")
            self.inside(lambda: _ip("link set lo up"))
            self.inside(lambda: _ip(f"link set {peer} up"))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def inside(self, act: Callable[[], T]) -> T:
        """What `act` returns, run in the namespace: a socket that it opens is there."""
        return self._inside.submit(act).result(60)

    def listener(self) -> socket.socket:
        """A socket in the namespace that listens on all its addresses."""
        return self.inside(lambda: socket.create_server(("", 0)))

    def appear(self, last: int) -> str:
        """Give the namespace an address, which ends in `last`, and return it."""
        address = f"{self._net}.{last}"
        self.inside(lambda: _ip(f"addr add {address}/24 dev {self._name}p"))
        # Nobody has to ask for its hardware address, so that packets are lost in silence when it is gone.
        hardware = self.inside(lambda: _hardware_address(f"{self._name}p"))
        _ip(f"neigh replace {address} lladdr {hardware} dev {self._name} nud permanent")
        self._addresses.append(address)
        return address

    def vanish(self) -> None:
        """Take away its addresses. What is sent to them arrives nowhere, and nothing comes back."""
        for address in self._addresses:
            self.inside(lambda address=address: _ip(f"addr del {address}/24 dev {self._name}p"))  # type: ignore[misc]
        self._addresses.clear()

    def _unshare(self) -> int:
        if self._libc.unshare(_CLONE_NEWNET) != 0:
            error = os.strerror(ctypes.get_errno())
            raise AssertionError(f"A network namespace cannot be made ({error}). Run this test as root, on Linux.")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _ip(command: str) -> None:
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {command}: {done.stderr.strip()}"


def _hardware_address(name: str) -> str:
    shown = subprocess.run(["ip", "-o", "link", "show", name], capture_output=True, text=True, check=True).stdout
    return shown.partition("link/ether ")[2].split()[0]
