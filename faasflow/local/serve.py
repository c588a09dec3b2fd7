"""The process of one function: loads its handler and serves it on a port of 127.0.0.1 until it is told to stop.

`python -m faasflow.local.serve --style http --name hello --handler ./hello --port 5001`. The handler's folder is the
package `function`, as in the templates, and it is on the import path as well: `from . import helper`, `from function
import helper` and `import helper` all work. The working directory stays what it was. The process ends with the one that
started it.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from faasflow.errors import FaasflowError, HandlerError, variable_hint
from faasflow.local.classic_call import import_handler
from faasflow.local.stack import Style

if TYPE_CHECKING:
    from faasflow.http.server import Server

THREADS = 16
GRACE = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, then answer what is in flight and return 0; 1 with one last line if it cannot start."""
    options = _parse(arguments)
    _end_with_parent()
    sys.dont_write_bytecode = True  # bytecode is told apart by whole seconds, and a reload may be faster
    try:
        if options.style is Style.FLOW:
            _serve_flow(options)
        else:
            _serve_plain(options)
    except FaasflowError as error:
        from faasflow.local.packages import install_hint

        return _refuse(error.message, hint=error.hint or install_hint(error, options.handler))
    return 0


def load_handle(folder: Path) -> Callable[..., Any]:
    """The `handle` of the handler.py in a folder. `HandlerError` if it cannot be imported or has none."""
    try:
        module = import_handler(folder)
    except Exception as exc:
        traceback.print_exc()
        text = f"Handler {str(folder / 'handler.py')!r} cannot be imported: {_brief(exc)}."
        raise HandlerError(text, hint=variable_hint(exc)) from exc
    handle = getattr(module, "handle", None)
    if not callable(handle):
        raise HandlerError(f"Handler {str(folder / 'handler.py')!r} has no function 'handle'. Define one.")
    return handle  # type: ignore[no-any-return]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faasflow.local.serve", description="Serve one function.")
    parser.add_argument("--style", type=Style, choices=list(Style), required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--handler", type=Path, required=True, help="the folder of handler.py")
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args(arguments)


def _serve_flow(options: argparse.Namespace) -> None:
    from faasflow import runtime
    from faasflow.local.browsers import FunctionGuard

    runtime.serve(options.handler, name=options.name, port=options.port, guard=FunctionGuard)


def _serve_plain(options: argparse.Namespace) -> None:
    # Before the handler's folder joins the import path: a helper may bear the name of a module the server needs.
    from faasflow.http.server import Server
    from faasflow.local.browsers import FunctionGuard
    from faasflow.local.classic import create_classic_app
    from faasflow.local.styles import create_app

    handle = load_handle(options.handler)
    if options.style is Style.CLASSIC:
        app = FunctionGuard(create_classic_app(options.handler))
    else:
        app = FunctionGuard(create_app(handle, style=options.style))
    server = Server(app, host="127.0.0.1", port=options.port, threads=THREADS)
    _drain_on_term(server)
    server.run()


def _drain_on_term(server: Server) -> None:
    from faasflow.http.server import end_soon

    def stop(_signal: int, _frame: FrameType | None) -> None:
        end_soon(server, grace=0, limit=GRACE)

    signal.signal(signal.SIGTERM, stop)


def _end_with_parent() -> None:
    """Watch the pipe that the parent holds open as our standard input; a killed parent closes it."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # so that the handler's own processes and `input()` do not touch the pipe
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="parent", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _refuse(text: str, *, hint: str) -> int:
    print(f"faasflow: error: {text} {hint}".rstrip().replace("\n", " "), file=sys.stderr, flush=True)
    return 1


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
