"""Hosts the functions of a stack: each in a process of its own, started when needed, again after a crash, and anew when
its files change."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from faasflow.errors import GatewayError
from faasflow.local.client import Headers
from faasflow.local.logs import LogRing
from faasflow.local.process import FunctionProcess
from faasflow.local.stack import FunctionSpec

STARTS_AT_ONCE = 4
_PORT_TRIES = 3
_FAILURE_STANDS = 2.0
_RETIRING = 30.0
_HEALTHY = 10.0  # seconds after which a death says nothing of the next start
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 4.0

Environment = Callable[[FunctionSpec], Mapping[str, str]]
OnLine = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: GatewayError
    until: float


class HostedFunction:
    """One function and the process that serves it now, if any.

    A process that died is replaced: that of a flow at once, as its clock runs in it, any other at the next call. Calls
    wait for the new one. Only one that keeps dying soon after its start is replaced later and later, up to four
    seconds."""

    headers: Headers = ()
    patience = math.inf

    def __init__(self, spec: FunctionSpec, *, environment: Environment, on_line: OnLine, ready_timeout: float) -> None:
        self.spec = spec
        self.logs = LogRing()
        self.invocations = 0
        self.created = time.time()
        self._environment = environment
        self._on_line = on_line
        self._ready_timeout = ready_timeout
        self._changed = threading.Condition()
        self._process: FunctionProcess | None = None
        self._fresh: FunctionProcess | None = None
        self._retiring: list[FunctionProcess] = []
        self._failure: _Failure | None = None
        self._early_deaths = 0
        self._is_starting = False
        self._closed = False

    @property
    def replicas(self) -> int:
        return 1

    @property
    def available(self) -> int:
        process = self._process
        return int(process is not None and process.is_alive)

    @contextmanager
    def use(self) -> Iterator[str]:
        """The URL of a ready process, for one call; starts one, or waits for one that starts, if there is none.
        `GatewayError` if it does not start; the same answer is given for two seconds, so that many callers do not start
        it over and over."""
        with ExitStack() as calling:
            with self._changed:
                url = calling.enter_context(self._running().use())
            yield url

    def ensure(self) -> None:
        """Start it unless it runs."""
        with self._changed:
            self._running()

    def reload(self) -> bool:
        """Replace the process by a new one, or keep it, and say so, if the new one does not start."""
        try:
            fresh = self._start()
        except GatewayError as error:
            self._report_broken(error)
            return False
        with self._changed:
            if self._closed:
                fresh.kill()
                return False
            old, self._process, self._failure = self._process, fresh, None
            self._early_deaths = 0
            if old is not None:
                self._retiring.append(old)
                threading.Thread(target=self._retire, args=(old,), daemon=True).start()
            self._changed.notify_all()
        return True

    def stop(self, *, grace: float) -> None:
        """End the process and start no other."""
        processes = self._close()
        until = time.monotonic() + grace
        for process in processes:
            process.stop(grace=max(0.0, until - time.monotonic()))

    def kill(self) -> None:
        """End the process now. It takes no lock, since a signal handler may call it."""
        self._closed = True
        for process in [*self._retiring, *filter(None, [self._process, self._fresh])]:
            process.kill()

    def _close(self) -> list[FunctionProcess]:
        with self._changed:
            self._closed = True
            processes = [*self._retiring, *filter(None, [self._process])]
            starting, self._process = self._fresh, None
            self._changed.notify_all()
        if starting is not None:
            starting.kill()
        return processes

    def _retire(self, process: FunctionProcess) -> None:
        process.stop(grace=_RETIRING)
        with self._changed:
            self._retiring.remove(process)

    def _running(self) -> FunctionProcess:
        """A ready process; waits for it as long as a start may take."""
        until = time.monotonic() + _LONGEST_PAUSE + self._ready_timeout
        while True:
            if self._closed:
                raise GatewayError(f"Function {self.spec.name!r} is not called: the gateway is stopping.")
            if self._process is not None and self._process.is_alive:
                return self._process
            if self._failure is not None and time.monotonic() < self._failure.until:
                raise self._failure.error
            self._begin_start()
            if not self._changed.wait(until - time.monotonic()):
                raise GatewayError(f"Function {self.spec.name!r} is still starting.", hint="Call it again.")

    def _begin_start(self) -> None:
        if not self._is_starting:
            self._is_starting = True
            threading.Thread(target=self._restart, name=f"start-{self.spec.name}", daemon=True).start()

    def _restart(self) -> None:
        try:
            self._wait_after_death()
            self._serve(self._start())
        except GatewayError as error:
            self._failure = _Failure(error, time.monotonic() + _FAILURE_STANDS)
        finally:
            with self._changed:
                self._is_starting = False
                self._changed.notify_all()
                self._replace_dead()

    def _wait_after_death(self) -> None:
        with self._changed:
            died = self._process
            if died is None or died.is_alive:
                return
            self._process = None
            self._early_deaths = self._early_deaths + 1 if died.served < _HEALTHY else 0
            pause = restart_pause(self._early_deaths)
        died.kill()
        when = f"in {pause:g} s" if pause else "again"
        self._say(f"the process ended with exit code {died.exit_code}; starting it {when}")
        with self._changed:
            self._changed.wait_for(lambda: self._closed, pause)

    def _serve(self, fresh: FunctionProcess) -> None:
        with self._changed:
            if self._closed or (self._process is not None and self._process.is_alive):
                fresh.kill()
            else:
                self._process, self._failure = fresh, None

    def _ended(self) -> None:
        with self._changed:
            self._replace_dead()

    def _replace_dead(self) -> None:
        is_dead = self._process is not None and not self._process.is_alive
        if is_dead and self.spec.is_flow and not self._closed:
            self._begin_start()

    def _start(self) -> FunctionProcess:
        for attempt in range(1, _PORT_TRIES + 1):
            process = self._spawn()
            try:
                process.wait_ready(timeout=self._ready_timeout)
            except GatewayError:
                process.kill()
                if process.met_busy_port and attempt < _PORT_TRIES:
                    continue
                raise
            finally:
                self._fresh = None
            return process
        raise AssertionError("unreachable")

    def _spawn(self) -> FunctionProcess:
        environment = self._environment(self.spec)
        process = FunctionProcess(self.spec, environment=environment, on_line=self._take, on_end=self._ended)
        with self._changed:
            if not self._closed:
                self._fresh = process
                return process
        process.kill()
        raise GatewayError(f"Function {self.spec.name!r} is not started: the gateway is stopping.")

    def _report_broken(self, error: GatewayError) -> None:
        with self._changed:
            if self._process is None:
                self._failure = _Failure(error, time.monotonic() + _FAILURE_STANDS)
        kept = "the version before it keeps running" if self.available else "it is not running"
        self._say(f"reload failed, {kept}: {error}")

    def _take(self, text: str, instance: str) -> None:
        self.logs.append(text, instance=instance)
        with suppress(OSError):  # a terminal that was closed must not stall the function
            self._on_line(self.spec.name, text)

    def _say(self, text: str) -> None:
        self._take(f"faasflow: {text}", self.spec.name)


class Supervisor:
    """All hosted functions. `environment` gives what a function's process gets beside the basics; `on_line(name, text)`
    is told every line a function writes."""

    def __init__(
        self, specs: Iterable[FunctionSpec], *, environment: Environment, on_line: OnLine, ready_timeout: float = 30.0
    ) -> None:
        self._make = partial(HostedFunction, environment=environment, on_line=on_line, ready_timeout=ready_timeout)
        self.functions: Mapping[str, HostedFunction] = {spec.name: self._make(spec) for spec in specs}

    def add(self, spec: FunctionSpec) -> HostedFunction:
        """Another function, which starts when it is called."""
        function = self._make(spec)
        self.functions = {**self.functions, spec.name: function}
        return function

    def remove(self, name: str) -> HostedFunction | None:
        """Leave a function, if there is one of this name, to whoever asks; it still runs."""
        function = self.functions.get(name)
        self.functions = {known: one for known, one in self.functions.items() if known != name}
        return function

    def start_all(self) -> Mapping[str, GatewayError]:
        """Start every function, four at a time; what did not start, with the reason."""
        with ThreadPoolExecutor(STARTS_AT_ONCE, thread_name_prefix="start") as pool:
            results = {name: pool.submit(function.ensure) for name, function in self.functions.items()}
        errors = {name: result.exception() for name, result in results.items()}
        return {name: _expected(error) for name, error in errors.items() if error is not None}

    def stop(self, *, grace: float) -> None:
        """End all processes, side by side, within `grace` seconds."""
        if not self.functions:
            return
        with ThreadPoolExecutor(len(self.functions), thread_name_prefix="stop") as pool:
            for function in self.functions.values():
                pool.submit(function.stop, grace=grace)

    def kill(self) -> None:
        """End all processes at once, whatever they are doing."""
        for function in self.functions.values():
            function.kill()


def restart_pause(early_deaths: int) -> float:
    """How long to wait, in seconds, before a process is replaced that died soon after its start `early_deaths` times
    in a row: not at all the first time."""
    return 0.0 if early_deaths <= 1 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(early_deaths - 2, 10))


def _expected(error: BaseException) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    raise error
