"""Which function a name stands for, where a call to it goes, and how it is sent there."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from faasflow.config import parse_duration
from faasflow.errors import GatewayError, UnreachableError
from faasflow.local.client import Client, Headers, LostAnswerError, Reply, find_header
from faasflow.local.logs import LogRing
from faasflow.local.stack import DEFAULT_NAMESPACE, FunctionSpec

MARGIN = 2.0

_PAUSE = 0.1
_RETRY = "/retry"
_COMMANDS = frozenset(("pause-flow", "stop-flow", "resume-flow", "state", "export-dag"))


class Function(Protocol):
    """Something that can be called by name. Its `headers` go with every call that has none of these names; when it
    cannot be reached, a call is repeated for `patience` seconds, within its own limit."""

    spec: FunctionSpec
    logs: LogRing
    invocations: int
    created: float
    headers: Headers
    patience: float

    @property
    def replicas(self) -> int:
        """How many there should be."""

    @property
    def available(self) -> int:
        """How many answer now."""

    def use(self) -> AbstractContextManager[str]:
        """The URL for one call. `GatewayError` if there is none to be had."""


class Upstreams:
    """A function that runs elsewhere, at one or more URLs that take turns."""

    def __init__(
        self, spec: FunctionSpec, urls: Sequence[str], *, headers: Headers = (), patience: float = math.inf
    ) -> None:
        self.spec = spec
        self.headers = headers
        self.patience = patience
        self.logs = LogRing()
        self.invocations = 0
        self.created = time.time()
        self.replicas = self.available = len(urls)
        self._turns = itertools.cycle([url.rstrip("/") for url in urls])
        self._lock = threading.Lock()

    @contextmanager
    def use(self) -> Iterator[str]:
        with self._lock:
            url = next(self._turns)
        yield url


class Absent:
    """A function that is known and served nowhere."""

    replicas = available = 0
    headers: Headers = ()
    patience = 0.0

    def __init__(self, spec: FunctionSpec) -> None:
        self.spec = spec
        self.logs = LogRing()
        self.invocations = 0
        self.created = time.time()

    @property
    def reason(self) -> str:
        """Why it is served nowhere, with the way out."""
        if self.spec.mistake:
            return self.spec.mistake
        return (
            f"it is not hosted here: {self.spec.unhosted}. "
            "Give its 'url' in stack.local.yml, or forward such calls with `faasflow up --remote URL`."
        )

    def use(self) -> AbstractContextManager[str]:
        raise GatewayError(self.reason)


class Router:
    """Calls functions by name. `timeout` is in seconds, for a function whose environment has no `exec_timeout`; what
    is unknown here is what `elsewhere` makes of its name."""

    def __init__(
        self, client: Client, *, timeout: float, elsewhere: Callable[[str], Function | None] = lambda name: None
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._elsewhere = elsewhere
        self._functions: dict[str, Function] = {}
        self._lock = threading.Lock()

    @property
    def functions(self) -> Mapping[str, Function]:
        return self._functions

    def add(self, function: Function) -> None:
        self._functions = {**self._functions, function.spec.name: function}

    def remove(self, name: str) -> None:
        """Know a function no more."""
        self._functions = {known: function for known, function in self._functions.items() if known != name}

    def find(self, name: str) -> Function | None:
        """The function called `name` or `name.namespace`; `None` if there is none."""
        plain, _, namespace = name.partition(".")
        function = self._functions.get(plain)
        if function is None or namespace not in ("", DEFAULT_NAMESPACE, function.spec.namespace):
            return self._elsewhere(name)
        return function

    def call(self, function: Function, method: str, target: str, *, headers: Headers, body: bytes) -> Reply:
        """Call for somebody who waits: as `send`, and again where the process ended meanwhile and another call does no
        harm. That is so for what was not sent, and for whatever a flow takes, which knows its requests by their
        ids."""
        until = time.monotonic() + min(self._limit(function.spec), function.patience)
        while True:
            try:
                return self.send(function, method, target, headers=headers, body=body)
            except (UnreachableError, LostAnswerError) as error:
                is_safe = isinstance(error, UnreachableError) or _is_safe(function, target)
                if not is_safe or time.monotonic() > until:
                    raise
            time.sleep(_PAUSE)  # a process that is about to end has closed its port already

    def send(self, function: Function, method: str, target: str, *, headers: Headers, body: bytes) -> Reply:
        """Call once. `GatewayError` if the function does not start, `TransportError` if it gives no answer."""
        if _is_invocation(function, method, target):
            with self._lock:
                function.invocations += 1
        try:
            return self._send(function, method, target, headers=headers, body=body)
        except UnreachableError:
            # It ended after it was looked up; nothing was sent, so once more cannot call it twice.
            return self._send(function, method, target, headers=headers, body=body)

    def _send(self, function: Function, method: str, target: str, *, headers: Headers, body: bytes) -> Reply:
        timeout = self._limit(function.spec)
        added = [(name, value) for name, value in function.headers if find_header(headers, name) is None]
        sent = [*headers, *added]
        with function.use() as url:
            return self._client.send(method, url, target=target, headers=sent, body=body, timeout=timeout)

    def _limit(self, spec: FunctionSpec) -> float:
        # Later than the function's own limit, which can give a better answer.
        return MARGIN + (parse_duration(spec.environment.get("exec_timeout", "")) or self._timeout)


def _is_invocation(function: Function, method: str, target: str) -> bool:
    """Whether a call is one of those that count: of a flow its starts, and not its own messages or a look at it."""
    path, _, query = target.partition("?")
    if not function.spec.is_flow:
        return not path.startswith("/_/")
    names = {part.partition("=")[0] for part in query.split("&")}
    return method == "POST" and path in ("", "/") and names.isdisjoint(_COMMANDS)


def _is_safe(function: Function, target: str) -> bool:
    """Whether the same call again does no harm. A second retry of a request is refused, as the first one took it on."""
    return function.spec.is_flow and not target.partition("?")[0].endswith(_RETRY)


def check_durations(spec: FunctionSpec) -> None:
    """`GatewayError` if the function's `exec_timeout` cannot be understood."""
    given = spec.environment.get("exec_timeout")
    if given and parse_duration(given) is None:
        raise GatewayError(f"Function {spec.name!r} has exec_timeout {given!r}. Write it like '90s' or '1m30s'.")
