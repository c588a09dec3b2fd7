"""The process of one call of a classic function, as the classic watchdog starts one for each: the body is its standard
input, what it prints and what `handle` returns its answer. It is run as a file and imports nothing of this package, so
that a call costs no more than the start of Python.

It ends with 0; with 1 after an error, whose text is then the last line it prints.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from typing import Any

PACKAGE = "function"


def main() -> int:
    for stream in (sys.stdin, sys.stdout):
        assert isinstance(stream, TextIOWrapper)
        # As in the template's image, whose locale is C.UTF-8: what is no UTF-8 passes unharmed.
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        result = import_handler(Path(sys.argv[1])).handle(sys.stdin.read())
        if result is not None:
            print(result)
    except SystemExit as error:
        if error.code in (None, 0):
            return 0
        print(f"SystemExit: {error.code}")
        return 1
    except BaseException as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def import_handler(folder: Path) -> Any:
    """The module handler.py of a folder, imported as of the package `function`, as in the templates. The folder is on
    the import path as well. Whatever the module raises is raised."""
    folder = folder.resolve()
    sys.path.insert(0, str(folder))
    init = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(PACKAGE, init, submodule_search_locations=[str(folder)])
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    if init.is_file() and spec.loader is not None:
        spec.loader.exec_module(package)
    module = importlib.import_module(f"{PACKAGE}.handler")
    sys.modules.setdefault("handler", module)
    return module


if __name__ == "__main__":
    sys.exit(main())
