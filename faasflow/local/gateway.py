"""The gateway: puts the parts together, and starts and stops them in the order that loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from faasflow.codec import build_decoders
from faasflow.errors import GatewayError
from faasflow.local.api import create_api
from faasflow.local.browsers import BrowserGuard
from faasflow.local.changes import Changes
from faasflow.local.client import Client
from faasflow.local.delivery import Delivery
from faasflow.local.elsewhere import RemoteGateway, serve_elsewhere
from faasflow.local.proxy import ASYNC, BODY_LIMIT, SYNC, Proxy, raw_target
from faasflow.local.queue import Queue
from faasflow.local.routing import Router, Upstreams, check_durations
from faasflow.local.server import GatewayServer
from faasflow.local.stack import FunctionSpec, Stack, load_stack
from faasflow.local.state import StateDir
from faasflow.local.supervisor import Supervisor

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

THREADS = 64
GRACE = 10.0


class Gateway:
    """An OpenFaaS gateway on one port, for the functions of a stack and for upstreams.

    Making one takes the state folder and the port (0 picks a free one); `start` serves. `on_line(name, text)` is told
    every line that a function writes. `timeout` bounds a call in seconds, unless the function has an `exec_timeout`.
    Requests must name an address, localhost, `host` or one of `allow_hosts`, and so must the pages that send them.
    What is not hosted here is called at its URL, else at the `remote` gateway. With `reload` files that change are
    taken over, and `reread` gives the stack as it is now; else, with `watches`, it is said once that they did.
    """

    def __init__(
        self,
        stack: Stack | None = None,
        *,
        state_dir: Path | str,
        port: int = 8080,
        host: str = "127.0.0.1",
        workers: int = 8,
        reload: bool = False,
        reread: Callable[[], Stack] | None = None,
        watches: bool = False,
        timeout: float = 60.0,
        body_limit: int = BODY_LIMIT,
        allow_hosts: Collection[str] = (),
        remote: RemoteGateway | None = None,
        on_line: Callable[[str, str], None] = lambda name, text: None,
    ) -> None:
        specs = stack.functions.values() if stack is not None else ()
        for spec in specs:
            check_durations(spec)
        hosted = [spec for spec in specs if spec.is_hosted]
        self._host = host
        self._timeout = timeout
        self._watches = watches or reload
        self._stopping = threading.Event()
        self._client = Client(threads=THREADS + workers)
        self._router = Router(
            self._client, timeout=timeout, elsewhere=remote.unknown if remote is not None else lambda name: None
        )
        self._api = create_api(self._router, is_stopping=self._stopping.is_set)
        self._state = StateDir(Path(state_dir))
        with ExitStack() as undo:
            self._state.lock()
            undo.callback(self._state.unlock)
            self._queue = Queue(self._state.queue)
            undo.callback(self._queue.close)
            self._proxy = Proxy(self._router, self._queue, body_limit=body_limit)
            guarded = BrowserGuard(self._answer, own=host, names=allow_hosts)
            self._server = GatewayServer(guarded, host=host, port=port, threads=THREADS)
            undo.pop_all()
        self._supervisor = Supervisor(hosted, environment=self._environment, on_line=on_line)
        for spec in specs:
            self._router.add(self._supervisor.functions.get(spec.name) or serve_elsewhere(spec, remote))
        self._delivery = Delivery(self._queue, self._router, self._client, workers=workers, on_line=on_line)
        self._changes = Changes(
            stack or Stack(functions={}),
            self._supervisor,
            self._router,
            reread=(reread or (lambda: _read_again(stack))) if reload else None,
            elsewhere=lambda spec: serve_elsewhere(spec, remote),
            on_line=on_line,
        )

    @property
    def url(self) -> str:
        """Where this gateway is reached from this machine."""
        host = "127.0.0.1" if self._host in ("", "0.0.0.0") else self._host
        return f"http://{host}:{self._server.port}"

    @property
    def queue(self) -> Queue:
        """The queue of asynchronous calls."""
        return self._queue

    def add_upstream(self, name: str, urls: Sequence[str]) -> None:
        """Serve function `name` from URLs, in turns, instead of a process."""
        self._router.add(Upstreams(FunctionSpec(name=name, lang="", handler=Path()), urls))

    def start(self) -> None:
        """Serve and deliver. Functions are started by their first call, or by `start_functions`."""
        build_decoders()
        self._server.start()
        self._delivery.start()
        if self._watches:
            self._changes.start()

    def start_functions(self) -> Mapping[str, GatewayError]:
        """Start every function now; those that did not start, with the reason."""
        return self._supervisor.start_all()

    def stop(self, *, grace: float = GRACE) -> None:
        """Claim no more messages, let calls in flight end within `grace` seconds, end the functions, close.

        What is queued, and what was in flight and did not end, is delivered after the next start. Calling it again is
        fine."""
        until = time.monotonic() + grace
        self._stopping.set()
        self._changes.stop(timeout=1)
        self._delivery.stop(until=until)
        # Calls in flight may call back, so the gateway answers until they have ended.
        self._server.wait_idle(until=until)
        self._supervisor.stop(grace=max(1.0, until - time.monotonic()))
        self._close()

    def kill_functions(self) -> None:
        """End the functions at once, whatever they are doing."""
        self._supervisor.kill()

    def _close(self) -> None:
        self._server.close()
        # A delivery that outlived the grace has lost its function by now, and gives its message back.
        self._delivery.stop(until=time.monotonic() + 1)
        self._queue.close()
        self._client.close()
        self._state.unlock()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if raw_target(environ).startswith((SYNC, ASYNC)):
            return self._proxy(environ, start_response)
        return self._api(environ, start_response)

    def _environment(self, spec: FunctionSpec) -> Mapping[str, str]:
        return function_environment(spec, gateway=self.url, state=self._state, timeout=self._timeout)


def _read_again(stack: Stack | None) -> Stack:
    return load_stack(stack.path) if stack is not None and stack.path is not None else Stack(functions={})


def function_environment(spec: FunctionSpec, *, gateway: str, state: StateDir, timeout: float) -> Mapping[str, str]:
    """What the process of a function is given: the environment of its stack file and, beneath it, its name and the
    laptop's settings of a flow."""
    laptop = {"OPENFAAS_NAME": spec.name}
    if spec.is_flow:
        store = state.flow_store(spec.name)
        laptop |= {
            "gateway": gateway,
            "workflow_name": spec.name,
            "state_store": store,
            "data_store": store,
            "secret_mount_path": str(state.secrets),
            "exec_timeout": f"{timeout:g}s",
            # Somebody sits in front of it, and a look at a file costs next to nothing.
            "tick_interval": "1s",
            "repair_after": "10s",
        }
    elif spec.secrets:
        laptop["secret_mount_path"] = str(state.secrets)
    return {**laptop, **spec.environment}
