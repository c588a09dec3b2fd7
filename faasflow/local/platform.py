"""Serves a stack in the foreground, until a signal ends it."""

from __future__ import annotations

import difflib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType

from faasflow.errors import GatewayError
from faasflow.local.elsewhere import RemoteGateway, without_login
from faasflow.local.gateway import GRACE, Gateway
from faasflow.local.mounts import SecretMounts
from faasflow.local.packages import INSTALL, is_to_install, missing_packages
from faasflow.local.packages import install as install_packages
from faasflow.local.stack import STATE_DIR, FunctionSpec, Stack, load_stack
from faasflow.naming import listed


def up(
    stack_path: Path | str = ".",
    *,
    only: Collection[str] = (),
    port: int = 8080,
    host: str = "127.0.0.1",
    state_dir: Path | str | None = None,
    reload: bool = False,
    workers: int = 8,
    allow_hosts: Collection[str] = (),
    grace: float = GRACE,
    remote: RemoteGateway | None = None,
    install: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Host the functions of a stack file until SIGINT or SIGTERM; a second signal ends at once.

    With `only` these of its functions, no others. With `reload` what changes, the stack file too, is served anew.
    `say` is given one line per function, then `ready`, and then the functions' own lines behind `[name]`. The state
    folder is `.faasflow` beside the stack file unless another is given. `allow_hosts` are names, besides localhost, by
    which browsers may reach it. What is not hosted here is called at the `remote` gateway, if one is given.
    With `install`, what the requirements.txt of a function names is installed for it first. Secrets of the state folder
    are linked to where functions look for them. `GatewayError` if the gateway cannot start; a function that does not
    start is said, and tried again when it is called or changed. To be called in the main thread."""

    def read() -> Stack:
        return chosen(load_stack(stack_path), only)

    stack = read()
    assert stack.path is not None
    folder = stack.path.parent / STATE_DIR if state_dir is None else Path(state_dir)
    gateway = Gateway(
        stack,
        port=port,
        host=host,
        state_dir=folder,
        reload=reload,
        reread=read,
        watches=True,
        workers=workers,
        allow_hosts=allow_hosts,
        remote=remote,
        on_line=lambda name, text: say(f"[{name}] {text}"),
    )
    ended = _end_on_signals(gateway)
    gateway.start()
    if install:
        for line in _installed(stack):
            say(line)
    mounts = SecretMounts(stack.functions.values(), source=folder / "secrets")
    notes = mounts.make()
    broken = gateway.start_functions()
    for line in _summary(gateway, stack, broken, remote, [*_unmet(stack), *notes]):
        say(line)
    ended.wait()
    say("stopping: waiting for what is in flight (Ctrl-C again ends at once)")
    gateway.stop(grace=grace)
    mounts.remove()
    say("stopped")


def chosen(stack: Stack, names: Collection[str]) -> Stack:
    """The stack with the functions of these names, in its order; with all if there are none. `GatewayError` for a name
    that it does not list."""
    for name in names:
        if name not in stack.functions:
            near = difflib.get_close_matches(name, stack.functions, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It lists {listed([*stack.functions])}."
            raise GatewayError(f"There is no function {name!r} in {stack.path}.", hint=hint)
    functions = {name: spec for name, spec in stack.functions.items() if not names or name in names}
    return replace(stack, functions=functions)


def _end_on_signals(gateway: Gateway) -> threading.Event:
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        if ended.is_set():
            gateway.kill_functions()
            os._exit(130)
        ended.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    return ended


def _summary(
    gateway: Gateway,
    stack: Stack,
    broken: Mapping[str, GatewayError],
    remote: RemoteGateway | None,
    notes: Iterable[str],
) -> list[str]:
    width = max(len(name) for name in ["gateway", *stack.functions])
    states = {
        name: f"broken: {broken[name]}" if name in broken else _state(spec, remote)
        for name, spec in stack.functions.items()
    }
    lines = [f"{name:{width}}  {gateway.url}/function/{name}  {state}" for name, state in states.items()]
    return [*lines, *notes, f"{'gateway':{width}}  {gateway.url}", "ready"]


def _installed(stack: Stack) -> Iterator[str]:
    """Installs the requirements of all functions, and says what is done."""
    for spec in filter(is_to_install, stack.functions.values()):
        yield f"{spec.name}: installing what its requirements.txt names"
        try:
            install_packages(spec)
        except GatewayError as error:
            yield f"{spec.name}: {error}"


def _unmet(stack: Stack) -> Iterator[str]:
    for spec in filter(lambda spec: spec.is_hosted, stack.functions.values()):
        if missing := missing_packages(spec):
            yield f"{spec.name}: its requirements.txt names {', '.join(missing)}, not here; {INSTALL}"


def _state(spec: FunctionSpec, remote: RemoteGateway | None) -> str:
    if spec.is_hosted:
        return "running"
    if spec.url:
        return f"at {without_login(spec.url)[0]}"
    if spec.mistake:
        return f"broken: {spec.mistake}"
    way = "calls are answered 502" if remote is None else f"calls go to {remote.url}"
    return f"not hosted: {spec.unhosted}; {way}"
