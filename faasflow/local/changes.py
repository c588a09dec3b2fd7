"""What is done about files that change while a gateway serves them: functions are served anew, a changed stack file is
taken over; or it is said, once for each, that what is served is older.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from faasflow.errors import FaasflowError, GatewayError
from faasflow.local.routing import Function, Router, check_durations
from faasflow.local.stack import FunctionSpec, Stack
from faasflow.local.supervisor import HostedFunction, Supervisor
from faasflow.local.watch import Watcher

GATEWAY = "gateway"
"""The name under which lines come that are about no function."""

_STACK = ""
_GRACE = 30.0


class Changes:
    """Watches the files of a stack. With `reread`, which gives the stack as it is now, changes are taken over, and
    `on_line` is told of them. `elsewhere` makes what stands for a function that no process here serves."""

    def __init__(
        self,
        stack: Stack,
        supervisor: Supervisor,
        router: Router,
        *,
        reread: Callable[[], Stack] | None,
        elsewhere: Callable[[FunctionSpec], Function],
        on_line: Callable[[str, str], None],
    ) -> None:
        self._specs = dict(stack.functions)
        self._path = stack.path
        self._supervisor = supervisor
        self._router = router
        self._reread = reread
        self._elsewhere = elsewhere
        self._on_line = on_line
        self._stale: set[str] = set()
        self._watcher = Watcher(self._watched(), on_change=self._changed)

    def start(self) -> None:
        """Look from now on; what changed since this was made counts."""
        self._watcher.start()

    def stop(self, *, timeout: float) -> None:
        """Look no more; wait up to `timeout` seconds for what is under way."""
        self._watcher.stop(timeout=timeout)

    def _watched(self) -> Mapping[str, Path]:
        folders = {name: spec.handler for name, spec in self._specs.items() if spec.is_hosted}
        return folders | ({_STACK: self._path} if self._path is not None else {})

    def _changed(self, name: str) -> None:
        if self._reread is None:
            self._tell_stale(name)
        elif name == _STACK:
            self._take_over(self._reread)
        elif self._supervisor.functions[name].reload():
            self._say(name, "its files have changed; the new ones are served.")

    def _tell_stale(self, name: str) -> None:
        if name not in self._stale:
            self._stale.add(name)
            what = f"{self._path.name} has" if name == _STACK and self._path is not None else "its files have"
            self._say(name, f"{what} changed; the older version is served. Start `faasflow up` again, or use --reload.")

    def _take_over(self, reread: Callable[[], Stack]) -> None:
        """Serve what the stack file lists now; if it is wrong, what it listed before."""
        try:
            specs = dict(reread().functions)
            for spec in specs.values():
                check_durations(spec)
        except FaasflowError as error:
            self._say(_STACK, f"the changed stack file is not taken over: {error}")
            return
        before, self._specs = self._specs, specs
        self._watcher.watch(self._watched())
        for name in before.keys() - specs.keys():
            self._router.remove(name)
            self._end(self._supervisor.remove(name))
            self._say(name, "it is served no more: the stack file does not list it.")
        for name, spec in specs.items():
            if before.get(name) != spec:
                self._serve(spec)

    def _serve(self, spec: FunctionSpec) -> None:
        """Serve a function whose entry is new, or has changed."""
        hosted = self._supervisor.functions.get(spec.name)
        if hosted is not None and spec.is_hosted:
            hosted.spec = spec
            if hosted.reload():
                self._say(spec.name, "its entry in the stack file has changed; it was started anew.")
            return
        self._end(self._supervisor.remove(spec.name))
        function = self._supervisor.add(spec) if spec.is_hosted else self._elsewhere(spec)
        self._router.add(function)
        if isinstance(function, HostedFunction):
            self._begin(function)

    def _begin(self, function: HostedFunction) -> None:
        try:
            function.ensure()
        except GatewayError as error:
            self._say(function.spec.name, f"broken: {error}")
        else:
            self._say(function.spec.name, "it is served, too: it is new in the stack file.")

    def _end(self, function: HostedFunction | None) -> None:
        if function is not None:
            threading.Thread(target=function.stop, kwargs={"grace": _GRACE}, daemon=True).start()

    def _say(self, name: str, text: str) -> None:
        self._on_line(name or GATEWAY, f"faasflow: {text}")
