"""Loading handler files."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.errors import HandlerError
from faasflow.runtime import load_handler
from faasflow.testing import FlowTester


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = [*sys.path], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("function", "helper"):
            del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def result(folder: Path) -> bytes | None:
    return FlowTester(load_handler(folder).define).run().result


DEFINE = "def define(flow, context): flow.sync_node().modify(lambda data: TEXT)\n"


@pytest.mark.parametrize("name", ["handler.py", "."])
def test_a_handler_is_given_as_a_file_or_as_its_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, handler="TEXT = 'here'\n" + DEFINE)

    assert result(tmp_path / name) == b"here"


def test_a_handler_may_have_another_file_name(tmp_path: Path) -> None:
    write(tmp_path, **{"my-flow.v2": "TEXT = 'here'\n" + DEFINE})

    assert result(tmp_path / "my-flow.v2.py") == b"here"


@pytest.mark.parametrize(
    "line",
    [
        "from .helper import TEXT",
        "from . import helper; TEXT = helper.TEXT",
        "from helper import TEXT",
        "import helper; TEXT = helper.TEXT",
        "from function.helper import TEXT",
        "from function import helper; TEXT = helper.TEXT",
        "import function.helper; TEXT = function.helper.TEXT",
    ],
)
@pytest.mark.parametrize("has_init", [True, False])
def test_a_handler_imports_what_lies_beside_it(tmp_path: Path, line: str, has_init: bool) -> None:
    write(tmp_path, helper="TEXT = 'help'", handler=f"{line}\n{DEFINE}", **({"__init__": ""} if has_init else {}))

    assert result(tmp_path) == b"help"


def test_a_handler_may_import_when_it_runs(tmp_path: Path) -> None:
    code = """
        def read(data):
            from . import helper
            import helper as again
            return helper.TEXT + again.TEXT
        def define(flow, context):
            flow.sync_node().modify(read)
    """
    write(tmp_path, helper="TEXT = 'help'", handler=code)

    assert result(tmp_path) == b"helphelp"


def test_the_next_handler_gets_its_own_neighbours(tmp_path: Path) -> None:
    for name in ("one", "two"):
        code = f"import helper\nfrom . import helper as again\nTEXT = helper.TEXT + again.TEXT\n{DEFINE}"
        write(tmp_path / name, helper=f"TEXT = '{name}'", handler=code)

    assert [result(tmp_path / name) for name in ("one", "two", "one")] == [b"oneone", b"twotwo", b"oneone"]
    assert [entry for entry in sys.path if entry.startswith(str(tmp_path))] == [str(tmp_path / "one")]


def test_names_may_be_spelled_as_in_go(tmp_path: Path) -> None:
    code = """
        from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
        def Define(flow, context): flow.sync_node().modify(bytes.upper)
        def OverrideStateStore(): return MemoryStateStore()
        def OverrideDataStore(): return MemoryDataStore()
    """
    handler = load_handler(write(tmp_path, handler=code))

    assert handler.override_state_store is not None
    assert handler.override_data_store is not None
    assert FlowTester(handler.define).run(b"x").result == b"X"


def test_stores_need_not_be_overridden(tmp_path: Path) -> None:
    handler = load_handler(write(tmp_path, handler="TEXT = ''\n" + DEFINE))

    assert (handler.override_state_store, handler.override_data_store) == (None, None)


@pytest.mark.parametrize("name", [".", "handler.py", "missing"])
def test_a_missing_file_is_told_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(HandlerError, match=r"There is no handler file .*Create it") as raised:
        load_handler(tmp_path / name)

    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("code", ["", "define = 1", "def handle(event, context): pass"])
def test_a_handler_without_define_is_told_what_it_lacks(tmp_path: Path, code: str) -> None:
    with pytest.raises(HandlerError, match=r"handler\.py' has no function define\(flow, context\)\. Add it"):
        load_handler(write(tmp_path, handler=code))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"handler": "import os\ndef define(:\n    pass"}, "line 2 of handler.py: SyntaxError: "),
        (
            {"handler": "\n\nimport no_such_module"},
            "line 3 of handler.py: ModuleNotFoundError: No module named 'no_such_",
        ),
        ({"handler": "\n1 / 0"}, "line 2 of handler.py: ZeroDivisionError: division by zero"),
        ({"handler": "import helper", "helper": "\n\n\n1 / 0"}, "line 4 of helper.py: ZeroDivisionError"),
        ({"handler": "from .helper import x", "helper": "def f(:"}, "line 1 of helper.py: SyntaxError"),
        ({"handler": "from .helper import x", "helper": ""}, "line 1 of handler.py: ImportError"),
        ({"handler": "", "__init__": "\n1 / 0"}, "line 2 of __init__.py: ZeroDivisionError"),
        ({"handler": "import json\njson.loads('x')"}, "line 2 of handler.py: JSONDecodeError"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_told_with_its_line(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(HandlerError) as raised:
        load_handler(write(tmp_path, **files))

    assert f"'{tmp_path}/handler.py' cannot be imported: {said}" in str(raised.value)
    assert raised.value.__cause__ is not None


def test_a_mended_handler_can_be_loaded_again(tmp_path: Path) -> None:
    write(tmp_path, handler="import helper\n" + DEFINE, helper="1 / 0")
    with pytest.raises(HandlerError):
        load_handler(tmp_path)
    write(tmp_path, handler="from helper import TEXT  # mended\n" + DEFINE, helper="TEXT = 'mended'")

    assert result(tmp_path) == b"mended"


def test_a_library_below_the_folder_of_a_handler_is_not_loaded_twice(tmp_path: Path) -> None:
    site = tmp_path / ".venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "helper_library.py").write_text("")
    code = f"import sys; sys.path.append({str(site)!r}); import helper_library; TEXT = str(id(helper_library))\n"
    write(tmp_path, handler=code + DEFINE)

    assert result(tmp_path) == result(tmp_path)
    del sys.modules["helper_library"]
