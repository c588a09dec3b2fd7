"""What user code asks for and returns: which annotations are taken, what becomes of a value, and what is refused."""

from __future__ import annotations

import collections
import enum
import functools
import json
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, Field

from faasflow import Flow
from faasflow.codec import decode, decode_each, encode, parameter_type, results_type
from faasflow.errors import DataError, DefinitionError

if typing.TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")


@dataclass
class Item:
    name: str
    count: int = 1
    tags: list[str] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    count: int = 1


@dataclass
class Child(Item):
    parent: Item | None = None
    size: float = 0.5


@dataclass
class Box(Generic[T]):
    value: T
    label: str = "box"


class Model(BaseModel):
    item: Item
    size: float = 1.5
    short: int = Field(default=3, alias="s")


class Struct(msgspec.Struct):
    item: Item
    size: int = 2


class Fields(TypedDict):
    name: str


class Pair(NamedTuple):
    left: int
    right: int = 2


class Colour(enum.Enum):
    RED = "red"


class Text(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Circle(BaseModel):
    radius: int


Name = NewType("Name", str)
Positive = Annotated[int, Field(gt=0)]


@pytest.mark.parametrize(
    ("wanted", "given", "returned"),
    [
        (Item, {"name": "a"}, {"name": "a", "count": 1, "tags": [], "note": None}),
        (Frozen, {"name": "a"}, {"name": "a", "count": 1}),
        (list[Item], [{"name": "a"}], [{"name": "a", "count": 1, "tags": [], "note": None}]),
        (dict[str, Frozen], {"k": {"name": "a"}}, {"k": {"name": "a", "count": 1}}),
        (Box[Frozen], {"value": {"name": "a"}}, {"value": {"name": "a", "count": 1}, "label": "box"}),
        (
            Model,
            {"item": {"name": "a"}},
            {"item": {"name": "a", "count": 1, "tags": [], "note": None}, "size": 1.5, "s": 3},
        ),
        (Struct, {"item": {"name": "a"}}, {"item": {"name": "a", "count": 1, "tags": [], "note": None}, "size": 2}),
        (
            Child,
            {"name": "a", "parent": {"name": "b"}},
            {
                "name": "a",
                "count": 1,
                "tags": [],
                "note": None,
                "parent": {"name": "b", "count": 1, "tags": [], "note": None},
                "size": 0.5,
            },
        ),
    ],
    ids=lambda value: str(getattr(value, "__name__", "")),
)
def test_what_is_decoded_and_returned_keeps_fields_that_were_left_to_their_defaults(
    wanted: Any, given: Any, returned: Any
) -> None:
    first = encode(decode(json.dumps(given).encode(), wanted, "node"), "node")

    assert json.loads(first) == returned
    assert encode(decode(first, wanted, "node"), "node") == first


@pytest.mark.parametrize(
    ("wanted", "data", "value"),
    [
        (dict | None, b"", None),
        (Optional[Item], b"", None),  # noqa: UP045
        (str | None, b"", None),
        (bytes | None, b"", None),
        (Model | None, b"", None),
        (dict | None, b" \n", None),
        (dict | None, b"\xef\xbb\xbf", None),
        (dict | None, b"{}", {}),
        (str | None, b"null", "null"),
        (int | None, b"null", None),
        (int | float, b"1.5", 1.5),
        (Annotated[str, "a name"], b"x", "x"),
        (Annotated[dict, {"not": "hashable"}], b"{}", {}),
        (Name, b"Ada", "Ada"),
        (Fields, b'{"name": "a"}', {"name": "a"}),
        (Pair, b"[1]", Pair(1, 2)),
        (bytearray, b"x", bytearray(b"x")),
        (memoryview, b"x", memoryview(b"x")),
        (Iterable[int], b"[1, 2]", [1, 2]),
        (Sequence[Item], b'[{"name": "a"}]', [Item("a")]),
        (Mapping[str, int], b'{"a": 1}', {"a": 1}),
        (tuple[int, str], b'[1, "a"]', (1, "a")),
        (set[int], b"[1, 1]", {1}),
        (Literal["a", 1], b"a", "a"),
        (Literal["a", 1], b"1", 1),
        (Colour, b"red", Colour.RED),
        (Colour, b'"red"', Colour.RED),
        (date, b"2026-01-31", date(2026, 1, 31)),
        (datetime, b'"2026-01-31T00:00:00Z"', datetime(2026, 1, 31, tzinfo=UTC)),
        (Decimal, b"1.50", Decimal("1.50")),
        (UUID, b"12345678123456781234567812345678", UUID("12345678123456781234567812345678")),
        (Path, b"/a/b", Path("/a/b")),
        (dict[str, Path], b'{"a": "/b"}', {"a": Path("/b")}),
        (Circle | Model, b'{"radius": 1}', Circle(radius=1)),
        (Item, b'\xef\xbb\xbf{"name": "a"}', Item("a")),
        (Circle, b'\xef\xbb\xbf{"radius": 1}', Circle(radius=1)),
    ],
)
def test_data_is_given_as_the_annotation_asks(wanted: Any, data: bytes, value: Any) -> None:
    assert decode(data, wanted, "node") == value


def test_a_constraint_of_pydantic_is_checked() -> None:
    with pytest.raises(DataError, match="greater than 0"):
        decode(b"0", Positive, "node")


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({1: "a", 1.5: "b"}, b'{"1":"a","1.5":"b"}'),
        ({date(2026, 1, 31): UUID(int=1)}, b'{"2026-01-31":"00000000-0000-0000-0000-000000000001"}'),
        ({Colour.RED: Text.RED}, b'{"red":"red"}'),
        (Text.RED, b"red"),
        (collections.Counter("aa"), b'{"a":2}'),
        (collections.deque([1]), b"[1]"),
        (range(2), b"[0,1]"),
        ({"a": 1}.keys(), b'["a"]'),
        (Pair(1), b"[1,2]"),
        (Path("/a"), b'"/a"'),
        (2**70, b"1180591620717411303424"),
        (Decimal("NaN"), b'"NaN"'),
        (bytearray(b"\xff"), b"\xff"),
    ],
)
def test_what_python_code_returns_becomes_bytes(value: Any, data: bytes) -> None:
    assert encode(value, "node") == data


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "$ is nan"),
        ({"a": [1, math.inf]}, "$.a[1] is inf"),
        (Item("a", count=-math.inf), "$.count is -inf"),
        (Box({"x": math.nan}), "$.value.x is nan"),
        (Model(item=Item("a"), size=math.nan), "$.size is nan"),
        (Struct(Item("a", count=math.nan)), "$.item.count is nan"),
        ({"image": b"\x89"}, "$.image is bytes. Return the bytes alone, or text made of them"),
        ([bytearray(1)], "$[0] is bytearray"),
        ([memoryview(b"x")], "$[0] is memoryview"),
        (Box(b"x"), "$.value is bytes"),
        ({b"a": 1}, "$ has the key b'a', a bytes"),
        ({math.nan: 1}, "$ has the key nan"),
        ({"x": {(1, 2): 1}}, "$.x has the key (1, 2), a tuple"),
        ({"a": "\ud800"}, "not valid Unicode"),
        ({"\ud800": "a"}, "not valid Unicode"),
        ("\ud800", "not valid Unicode"),
        (LOOP, "contains itself"),
        ([object()], "object is neither bytes, text nor JSON"),
        ((number for number in "ab"), "read only once. Return a list"),
        (len, "neither bytes, text nor JSON"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_its_place(value: Any, reason: str) -> None:
    with pytest.raises(DataError) as raised:
        encode(value, "'f' of node 'n'")

    assert str(raised.value).startswith("'f' of node 'n' returned ")
    assert reason in str(raised.value)


@dataclass
class Results:
    text: str
    binary: bytes
    item: Item
    maybe: int | None = 7


RESULTS = {"text": b"123", "binary": b"12\xff", "item": b'{"name": "a"}'}


@pytest.mark.parametrize(
    ("wanted", "inputs", "value"),
    [
        (Results, RESULTS, Results("123", b"12\xff", Item("a"))),
        (Results, {**RESULTS, "maybe": b""}, Results("123", b"12\xff", Item("a"), None)),
        (dict, {"a": b"1"}, {"a": b"1"}),
        (dict[int, int], {"0": b"1"}, {0: 1}),
        (Mapping[str, int | None], {"a": b""}, {"a": None}),
        (tuple[int, ...], {"a": b"1", "b": b"2"}, (1, 2)),
        (Iterable[str], {"a": b"1"}, ["1"]),
        (Fields, {"name": b"1"}, {"name": "1"}),
        (Circle, {"radius": b"1"}, Circle(radius=1)),
    ],
)
def test_results_are_given_as_the_annotation_of_an_aggregator_asks(wanted: Any, inputs: Any, value: Any) -> None:
    assert decode_each(inputs, wanted, "node") == value


def test_a_binary_result_is_no_field_that_is_not_bytes() -> None:
    with pytest.raises(DataError, match="is given binary data"):
        decode_each({**RESULTS, "item": b"\xff"}, Results, "node")


class Plain:
    pass


class Later:
    async def __call__(self, data: dict) -> None: ...

    def method(self, data: list[int]) -> None: ...

    @staticmethod
    def fixed(data: str) -> None: ...


def many(*data: str) -> None: ...


def two(data: list, other: int) -> None: ...


def keyword(*, data: bytes) -> None: ...


def hidden(data: Fraction) -> None: ...


def nested(data: list[Fraction]) -> None: ...


def gives_some(data: dict) -> Iterator[int]:
    yield 1


async def gives_some_later(data: dict) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (many, str),
        (functools.partial(two, other=1), list),
        (Later(), dict),
        (Later().method, list[int]),
        (Later.fixed, str),
        (str.upper, str),
        (bytes.upper, bytes),
        (len, bytes),
        (str, str),
        (int, bytes),
        (lambda data: data, bytes),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_any_callable_is_asked_for_the_type_of_its_parameter(code: Any, wanted: Any) -> None:
    Flow().dag().node("a").modify(code)

    assert parameter_type(code) == wanted


def annotated(wanted: Any) -> Callable[[Any], None]:
    def code(data: Any) -> None: ...

    code.__annotations__["data"] = wanted
    return code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (two, "cannot be called with one argument: missing a required argument: 'other'"),
        (keyword, "cannot be called with one argument"),
        (functools.partial(two, []), None),
        (lambda: b"", "cannot be called with one argument: too many positional arguments"),
        (hidden, "'Fraction' of 'hidden' cannot be resolved: name 'Fraction' is not defined. Define or import"),
        (nested, "'list[Fraction]' of 'nested' cannot be resolved"),
        (annotated("Nowhere"), "'Nowhere' of 'code' cannot be resolved"),
        (annotated(list["Nowhere"]), "cannot be resolved: name"),  # noqa: F821
        (annotated(Plain), "Plain is not a type that JSON can be read as. Annotate dict, list or bytes"),
        (annotated(dict[str, Plain]), "Plain is not a type"),
        (annotated(Box[Plain]), "Plain is not a type"),
        (annotated(complex), "complex is not a type"),
        (annotated(Iterator[int]), "is not a type"),
        (annotated(Callable), "is not a type"),
        (annotated(T), "~T stands for any type"),
        (annotated(str | int), "does not say whether the data is str. Annotate str alone"),
        (annotated(bytes | dict), "does not say whether the data is bytes. Annotate bytes alone"),
        (annotated(Item | Fields), "cannot be read from JSON"),
        (annotated(list[bytes]), "list[bytes] has bytes inside, which JSON does not hold. Annotate str"),
        (annotated(dict[str, bytearray]), "has bytes inside"),
        (annotated(Results), "Results has bytes inside"),
        (annotated(Box[bytes] | None), "has bytes inside"),
        (annotated(3), "cannot be read from JSON"),
        (gives_some, "which yields. Return one value"),
        (gives_some_later, "which yields. Return one value"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_callable_that_cannot_be_given_data_is_refused_where_it_is_written(code: Any, reason: str | None) -> None:
    node = Flow().dag().node("a")
    if reason is None:
        node.modify(code)
        return
    with pytest.raises(DefinitionError) as raised:
        node.modify(code)

    assert "modify() of node 'a'" in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("wanted", [str, int, Pair, tuple[int, str], dict[str, Plain], list[str | int], date])
def test_an_aggregator_that_cannot_be_given_results_is_refused_where_it_is_written(wanted: Any) -> None:
    with pytest.raises(DefinitionError, match="aggregator of node 'a'"):
        Flow().dag().node("a", aggregator=annotated(wanted))


@pytest.mark.parametrize("code", [list, dict, tuple, sorted, len, dict.values])
def test_an_aggregator_may_be_a_builtin_of_a_dict(code: Callable[[Any], Any]) -> None:
    Flow().dag().node("a", aggregator=code)

    assert code(decode_each({"a": b"1"}, results_type(code), "node")) == code({"a": b"1"}) or code is dict.values


def test_an_annotation_is_resolved_before_all_that_the_function_closes_over_is_there() -> None:
    def code(data: Item) -> None:
        print(later)

    Flow().dag().node("a").modify(code)
    later = 1
    assert parameter_type(code) is Item
