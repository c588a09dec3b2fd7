"""msgspec builds what it knows of a type at first use, and two threads that do so at once crash the process."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

import faasflow
from faasflow.codec import build_decoders, decode, json_decoder, msgpack_decoder

PACKAGE = Path(faasflow.__file__).parent
PROCESSES = 10
THREADS = 16

# Every record of the package is met first by many threads at once, in another order by each.
RECORDS = """
    import pkgutil, importlib, msgspec, faasflow.engine, faasflow.local.delivery
    from faasflow.codec.decoders import json_decoder, msgpack_decoder, _descendants
    for module in pkgutil.iter_modules(faasflow.engine.__path__, "faasflow.engine."):
        importlib.import_module(module.name)
    kinds = [kind for kind in _descendants(msgspec.Struct) if kind.__module__.startswith("faasflow.")]
    FIELDS = {"step": ["a"], "data": {"text": "x"}, "failure": {}, "request": "r", "due": 1, "v": 1, "trace": {}}
    kinds.sort(key=lambda kind: len(kind.__struct_fields__), reverse=True)
    def meet(number):
        for kind in kinds[number % 3:] + kinds[:number % 3]:
            for decoder, encode in ((json_decoder, msgspec.json.encode), (msgpack_decoder, msgspec.msgpack.encode)):
                try:
                    decoder(kind).decode(encode(FIELDS))
                except ValueError:
                    pass
"""
# What a handler's callables are annotated with: types that hold each other.
ANNOTATIONS = """
    from dataclasses import dataclass
    from typing import NamedTuple, TypedDict
    from faasflow.codec import decode
    @dataclass
    class Leaf:
        name: str
        size: int = 0
    class Pair(NamedTuple):
        left: Leaf
        right: Leaf | None = None
    class Fields(TypedDict):
        pair: Pair
    @dataclass
    class Tree:
        leaf: Leaf
        children: "list[Tree]"
        more: "dict[str, Fields] | None" = None
    TEXT = b'{"leaf": {"name": "a"}, "children": [{"leaf": {"name": "b"}, "children": []}]}'
    TEXT = TEXT[:-1] + b', "more": {"x": {"pair": [{"name": "c"}]}}}'
    def meet(number):
        for wanted in ((Tree, list[Tree], dict[str, Tree]) * 2)[number % 3:][:3]:
            text = {Tree: TEXT, list[Tree]: b"[" + TEXT + b"]"}.get(wanted, b'{"k": ' + TEXT + b"}")
            decode(text, wanted, "node")
"""
PROGRAM = """
    import sys, threading
    sys.setswitchinterval(1e-6)
    go = threading.Barrier({threads})
    failed = []
    def work(number):
        go.wait()
        try:
            meet(number)
        except BaseException as error:
            failed.append(error)
            raise
    threads = [threading.Thread(target=work, args=(number,)) for number in range({threads})]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    sys.exit(bool(failed))
"""


@pytest.mark.parametrize("code", [RECORDS, ANNOTATIONS], ids=["records", "annotations"])
def test_types_that_many_threads_meet_at_once_do_not_crash_the_process(code: str) -> None:
    program = textwrap.dedent(code) + textwrap.dedent(PROGRAM).format(threads=THREADS)
    ended = [subprocess.run([sys.executable, "-c", program], capture_output=True) for _ in range(PROCESSES)]

    assert [(process.returncode, process.stderr.decode()) for process in ended] == [(0, "")] * PROCESSES


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_codec_makes_decoders_of_types(path: Path) -> None:
    if path == PACKAGE / "codec" / "decoders.py":
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]

    assert [ast.unparse(call) for call in calls if _decodes_a_type(call)] == []


def test_all_records_that_are_imported_are_built_before_serving() -> None:
    class Late(msgspec.Struct):
        __module__ = "faasflow.late"

    before = build_decoders()
    Late.__module__ = "elsewhere"

    assert build_decoders() == before - 1


def test_a_decoder_is_made_once_for_a_type() -> None:
    @dataclass
    class Order:
        item: str

    assert json_decoder(Order) is json_decoder(Order)
    assert msgpack_decoder(Order) is msgpack_decoder(Order)
    assert json_decoder(list[Order]) is json_decoder(list[Order])


def test_a_type_that_cannot_be_hashed_is_decoded() -> None:
    kind = Annotated[int, msgspec.Meta(extra_json_schema={"format": "even"}), {"unhashable": True}]

    assert decode(b"4", kind, "node") == 4


def test_types_that_are_made_again_and_again_do_not_fill_the_memory() -> None:
    from faasflow.codec.decoders import _json

    for _ in range(1500):
        json_decoder(msgspec.defstruct("Made", [("item", str)]))

    assert len(_json._built) <= 1024


def _decodes_a_type(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if not name.startswith("msgspec."):
        return False
    is_typed = any(keyword.arg == "type" for keyword in call.keywords)
    return name.endswith(".Decoder") or name == "msgspec.convert" or (name.endswith(".decode") and is_typed)
