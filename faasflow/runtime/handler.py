"""Handler files: finding, importing and checking them."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from faasflow.errors import HandlerError, variable_hint

if TYPE_CHECKING:
    from faasflow.events import EventHandler
    from faasflow.ports import DataStore, StateStore

PACKAGE = "function"

_SITES = {"site-packages", "dist-packages"}
_loaded: dict[str, set[str]] = {}  # the folder of the last handler, with the names of the modules that came from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What a handler file gives: `define`, and functions that make the stores and the event handler it brings along,
    if it does."""

    define: Callable[[Any, Any], Any]
    override_state_store: Callable[[], StateStore | None] | None = None
    override_data_store: Callable[[], DataStore | None] | None = None
    override_event_handler: Callable[[], EventHandler | None] | None = None


def load_handler(path: Path) -> Handler:
    """The handler in a file, or in the `handler.py` of a folder; names may be spelled as in Go (`Define`).

    The folder becomes the package `function`, as in the templates, and the first place where modules are looked for.
    One handler is loaded at a time: the next one takes over the names of its modules. `HandlerError` says what is
    wrong, and in which line.
    """
    file = (path / "handler.py" if path.is_dir() else path).resolve()
    if not file.is_file():
        raise HandlerError(f"There is no handler file {str(file)!r}. Create it, with a function define(flow, context).")
    module = _imported(file)
    define = _named(module, "define", "Define")
    if define is None:
        raise HandlerError(f"Handler {str(file)!r} has no function define(flow, context). Add it.")
    return Handler(
        define=define,
        override_state_store=_named(module, "override_state_store", "OverrideStateStore"),
        override_data_store=_named(module, "override_data_store", "OverrideDataStore"),
        override_event_handler=_named(module, "override_event_handler", "OverrideEventHandler"),
    )


def _named(module: ModuleType, *names: str) -> Callable[..., Any] | None:
    found = (getattr(module, name, None) for name in names)
    return next((value for value in found if callable(value)), None)


def _imported(file: Path) -> ModuleType:
    _forget_last()
    before = set(sys.modules)
    sys.path.insert(0, str(file.parent))
    try:
        _import_package(file.parent)
        return _import_file(f"{PACKAGE}.{file.stem}", file)
    except Exception as error:
        where = _line_of(error, file.parent)
        reason = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        text = f"Handler {str(file)!r} cannot be imported: {where}{reason}"
        raise HandlerError(text, hint=variable_hint(error)) from error
    finally:
        _loaded[str(file.parent)] = {name for name in set(sys.modules) - before if _is_of(name, file.parent)}


def _forget_last() -> None:
    for folder, names in _loaded.items():
        if folder in sys.path:
            sys.path.remove(folder)
        for name in names:
            sys.modules.pop(name, None)
    _loaded.clear()


def _import_package(folder: Path) -> None:
    init = folder / "__init__.py"
    if init.is_file():
        _import_file(PACKAGE, init, submodules=[str(folder)])
        return
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package


def _import_file(name: str, file: Path, *, submodules: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=submodules)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name!r} is not a Python file")
    return _executed(spec)


def _executed(spec: ModuleSpec) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    assert spec.loader is not None
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module


def _is_of(name: str, folder: Path) -> bool:
    """Whether a module is the handler's own: not a library that is installed below its folder."""
    if name == PACKAGE or name.startswith(f"{PACKAGE}."):
        return True
    file = getattr(sys.modules[name], "__file__", None)
    if not file or name.partition(".")[0] == "faasflow":
        return False
    path = Path(file)
    return path.is_relative_to(folder) and _SITES.isdisjoint(path.relative_to(folder).parts)


def _line_of(error: Exception, folder: Path) -> str:
    """The line of the handler's own files that an error comes from, as `line 3 of handler.py: `."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"line {error.lineno} of {Path(error.filename).name}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    return f"line {frames[-1].lineno} of {Path(frames[-1].filename).name}: " if frames else ""
