"""One process of one function: started on a free port, watched until it is ready, drained and ended."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import faasflow
from faasflow.errors import GatewayError
from faasflow.local.stack import FunctionSpec

_PORTS = (20_000, 32_767)  # below what systems hand out for outgoing connections
_LONGEST_LINE = 64 * 1024
_BUSY = "Address already in use"
_ERROR = "faasflow: error: "
_PASSED = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "HOSTNAME", "NO_PROXY", "no_proxy"}
_PASSED_PREFIXES = (
    "LC_",
    "PYTHON",
    "LD_",
    "SSL_",
    "FAASFLOW_",
    "COVERAGE_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_",
    "https_",
)


class FunctionProcess:
    """A started process; `url` is where it listens. `use` counts calls, so that `stop` can wait for them."""

    def __init__(
        self,
        spec: FunctionSpec,
        *,
        environment: Mapping[str, str],
        on_line: Callable[[str, str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._on_line = on_line
        self._on_end = on_end
        self._ready: float | None = None
        self._ended: float | None = None
        self._last: list[str] = []
        self._calls = 0
        self._idle = threading.Condition()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._child = self._spawn(process_environment(os.environ, environment, packages=spec.packages))
        self.instance = f"{spec.name}-{self._child.pid}"
        self._reader = threading.Thread(target=self._read, name=f"log-{spec.name}", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name=f"wait-{spec.name}", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def served(self) -> float:
        """For how many seconds it was ready."""
        if self._ready is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._ready

    @property
    def met_busy_port(self) -> bool:
        """Whether it ended because somebody took its port in between."""
        return any(_BUSY in line or "is in use." in line for line in self._last)

    def wait_ready(self, *, timeout: float) -> None:
        """Return once `/_/ready` answers 200. `GatewayError` with what the process said last if it ends before or takes
        longer than `timeout` seconds."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if not self.is_alive:
                self._reader.join(timeout=2)
                raise GatewayError(f"Function {self._spec.name!r} does not start: {self._said()}")
            if _is_ready(self.port):
                self._ready = time.monotonic()
                return
            time.sleep(0.02)
        raise GatewayError(f"Function {self._spec.name!r} was not ready after {timeout:g} s. It said: {self._said()}")

    @contextmanager
    def use(self) -> Iterator[str]:
        """The URL, for one call."""
        with self._idle:
            self._calls += 1
        try:
            yield self.url
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    def stop(self, *, grace: float) -> None:
        """Wait for the calls in flight, ask it to end, and kill it (with whatever it started) when `grace` is over."""
        until = time.monotonic() + grace
        with self._idle:
            self._idle.wait_for(lambda: self._calls == 0, grace)
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(max(0.0, until - time.monotonic()))
        self._kill_group()
        self.kill()

    def kill(self) -> None:
        """End it now, with whatever it started. Calling it again is fine."""
        if self._child.poll() is None:  # else its number may be somebody else's by now
            self._kill_group()
        self._child.wait()
        self._reader.join(timeout=2)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _spawn(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        spec = self._spec
        # -P: a folder beside the stack file must not shadow a module. A new session: Ctrl-C is for the gateway alone.
        command = [sys.executable, "-P", "-m", "faasflow.local.serve", "--style", spec.style, "--name", spec.name]
        try:
            return subprocess.Popen(
                [*command, "--handler", str(spec.handler), "--port", str(self.port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise GatewayError(f"No process can be started for function {spec.name!r}: {exc}.") from exc

    def _wait(self) -> None:
        self._child.wait()
        self._ended = time.monotonic()
        self._on_end()

    def _read(self) -> None:
        assert self._child.stdout is not None
        while raw := self._child.stdout.readline(_LONGEST_LINE):
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self._last = [*self._last[-9:], line]
            self._on_line(line, self.instance)

    def _said(self) -> str:
        reasons = [line.removeprefix(_ERROR) for line in self._last if line.startswith(_ERROR)]
        if reasons:
            return reasons[-1]
        # What counts of a traceback is its last line.
        count = 1 if any(line.startswith("  ") for line in self._last) else 5
        return " | ".join(self._last[-count:]) or f"it ended with exit code {self.exit_code} and said nothing."


def process_environment(
    own: Mapping[str, str], given: Mapping[str, str], *, packages: Path | None = None
) -> dict[str, str]:
    """What a function's process gets: as in a container only what it is given, and of ours only what a program needs to
    run at all (search paths, locale, proxies, settings of Python). `packages` is a folder that it imports from, if it
    is there."""
    passed = {name: value for name, value in own.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    home = Path(faasflow.__file__).parent.parent
    places = [] if home.name in ("site-packages", "dist-packages") else [str(home)]
    places += [str(packages)] if packages is not None and packages.is_dir() else []
    if places:
        passed["PYTHONPATH"] = os.pathsep.join(filter(None, [*places, passed.get("PYTHONPATH", "")]))
    return {**passed, "PYTHONUNBUFFERED": "1", **given}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    while True:
        port = random.randint(*_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/_/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
