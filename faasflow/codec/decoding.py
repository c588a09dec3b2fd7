"""From bytes to what an annotation asks for, and which annotations can be asked for."""

from __future__ import annotations

import functools
import operator
import os
import pathlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from inspect import Parameter
from typing import Any

from faasflow.codec.decoders import Built, as_list, convert, json_decoder
from faasflow.errors import DataError

_BOM = b"\xef\xbb\xbf"
_ANYTHING = (Parameter.empty, Any, object)
_DICTS = (dict, Mapping, MutableMapping)
_LISTS = (list, tuple, Sequence, MutableSequence, Collection, Iterable)
_WAY_OUT = "Annotate dict, list or bytes, and build it in the code."
_NO_BYTES = "Annotate str, and make bytes of it in the code, as with base64.b64decode()."
_EACH = "An aggregator is given results by id. Annotate dict, dict[str, T], list[T], a dataclass or a model."


class Kind(Enum):
    """How the bytes of a value are read."""

    BYTES = "bytes"
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Form:
    """What is done for one annotation: `read` makes the value; empty data is `None` where that `may_be_none`."""

    kind: Kind
    read: Callable[[bytes], Any]
    may_be_none: bool = False


def decode(data: bytes, wanted: Any, what: str) -> Any:
    """`data` as the type `wanted`; `DataError`, which names `what`, if it is not that."""
    form = form_of(wanted)
    is_empty = not data or (form.kind is Kind.JSON and not data.removeprefix(_BOM).strip())
    if form.may_be_none and is_empty:
        return None
    try:
        return form.read(data)
    except (ValueError, RecursionError) as error:
        found = "is empty" if is_empty else f"is not: {error}"
        hint = f"Write {name_of(wanted)} | None where there may be no data." if is_empty else ""
        raise DataError(f"{what} wants {name_of(wanted)} but its input {found}", hint=hint) from error


def decode_each(inputs: Mapping[str, bytes], wanted: Any, what: str) -> Any:
    """What an aggregator annotated with `wanted` is given for `inputs`.

    A bare `dict` or none: bytes by id. `dict[str, T]`: a `T` by id. `list[T]`: each `T`, in order. A dataclass or
    model: its fields are the ids, their values the results.
    """
    wanted = _stripped(wanted)[0]
    origin, arguments = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if origin in (*_ANYTHING, bytes) or (origin in _DICTS and not arguments):
        return dict(inputs)
    each = {key: f"{what}, for {key!r}," for key in inputs}
    if origin in _DICTS:
        wanted_key, wanted = arguments
        return {_key(key, wanted_key, what): decode(data, wanted, each[key]) for key, data in inputs.items()}
    if origin in _LISTS:
        wanted = arguments[0] if arguments else Any
        found = [decode(data, wanted, each[key]) for key, data in inputs.items()]
        return tuple(found) if origin is tuple else found
    return _object(inputs, wanted, what)


def check_annotation(wanted: Any) -> None:
    """`DataError` for an annotation that no data can be read as."""
    form_of(wanted)


def check_each_annotation(wanted: Any) -> None:
    """`DataError` for an annotation that results by id cannot be given as."""
    wanted = _stripped(wanted)[0]
    origin, arguments = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if origin in (*_ANYTHING, bytes):
        return
    if origin in (*_DICTS, *_LISTS):
        for argument in arguments:
            if argument is not Ellipsis:
                form_of(argument)
        if origin is tuple and arguments and arguments[1:] != (Ellipsis,):
            raise DataError(f"{name_of(wanted)} has a fixed length. {_EACH}")
        return
    if not _fields(wanted):
        raise DataError(f"{name_of(wanted)} is not. {_EACH}")
    _reader(wanted, wanted, may_hold_bytes=True)


def readable(data: bytes) -> Any:
    """`data` as it reads best inside JSON: what it holds if it is JSON, else text, else base64 text."""
    import base64

    try:
        return _json_or_text(data)
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def type_of(data: bytes) -> type | None:
    """The type of what `data` holds if it is JSON, else `str`; `None` for binary data."""
    try:
        return type(_json_or_text(data))
    except UnicodeDecodeError:
        return None


def json_or_text(data: bytes, id: str) -> Any:
    """The result of the end node `id` as it reads best inside JSON; `DataError` for what is neither JSON nor text."""
    try:
        return _json_or_text(data)
    except UnicodeDecodeError:
        raise DataError(
            f"The result of {id!r} is binary, which the JSON object of several results cannot hold.",
            hint="Combine the results with dag.end(aggregator=code), or let one node come last.",
        ) from None


def _json_or_text(data: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(data.removeprefix(_BOM))
    except (ValueError, RecursionError):
        return data.decode()


def name_of(wanted: Any) -> str:
    """An annotation as it is written."""
    return wanted.__name__ if isinstance(wanted, type) and not typing.get_args(wanted) else str(wanted)


_forms = Built()


def form_of(wanted: Any) -> Form:
    """How data is read as `wanted`. `DataError` for what it cannot be read as."""
    found: Form | None = _forms.get(wanted)
    return found if found is not None else _forms.build(wanted, lambda: _form(wanted))


def _form(wanted: Any) -> Form:
    stripped, may_be_none = _stripped(wanted)
    if stripped in _ANYTHING:
        return Form(Kind.BYTES, bytes, may_be_none)
    if stripped in (bytes, bytearray, memoryview):
        return Form(Kind.BYTES, stripped, may_be_none)
    if stripped is str:
        return Form(Kind.TEXT, bytes.decode, may_be_none)
    _check_union(stripped)
    target = stripped | None if may_be_none and not _is_pydantic(wanted) else wanted
    return Form(Kind.JSON, _reader(wanted if may_be_none else target, stripped), may_be_none)


def _stripped(wanted: Any) -> tuple[Any, bool]:
    """`wanted` without what says nothing about its form, and whether it may be `None`."""
    may_be_none = wanted in (None, types.NoneType)
    while True:
        if typing.get_origin(wanted) is typing.Annotated:
            wanted = wanted.__origin__
        elif isinstance(wanted, typing.NewType):
            wanted = wanted.__supertype__
        elif hasattr(wanted, "__value__"):  # type X = ..., since Python 3.12
            wanted = wanted.__value__
        elif isinstance(wanted, typing.TypeVar):
            if wanted.__bound__ is None:
                raise DataError(f"{wanted} stands for any type. Annotate the type itself.")
            wanted = wanted.__bound__
        elif typing.get_origin(wanted) in (typing.Union, types.UnionType) and types.NoneType in typing.get_args(wanted):
            rest = [one for one in typing.get_args(wanted) if one is not types.NoneType]
            wanted, may_be_none = functools.reduce(operator.or_, rest), True
        else:
            return wanted, may_be_none


def _check_union(wanted: Any) -> None:
    if typing.get_origin(wanted) not in (typing.Union, types.UnionType):
        return
    kinds = {_stripped(one)[0] for one in typing.get_args(wanted)}
    for raw in (str, bytes, bytearray, memoryview, *_ANYTHING):
        if raw in kinds:
            shown = name_of(raw)
            raise DataError(f"{name_of(wanted)} does not say whether the data is {shown}. Annotate {shown} alone.")


def _reader(wanted: Any, stripped: Any, *, may_hold_bytes: bool = False) -> Callable[[bytes], Any]:
    try:
        if _is_pydantic(wanted):
            from pydantic import TypeAdapter

            validate = TypeAdapter(wanted).validate_json
            return lambda data: validate(data.removeprefix(_BOM))
        import msgspec

        decoder = json_decoder(wanted)
        is_textual = _check_type(msgspec.inspect.type_info(wanted), wanted, may_hold_bytes=may_hold_bytes)
    except DataError:
        raise
    except Exception as error:  # annotations may hold anything, also names that do not exist
        raise DataError(f"{name_of(wanted)} cannot be read from JSON: {error}. {_WAY_OUT}") from error
    return _textual_reader(decoder.decode, wanted) if is_textual else lambda data: decoder.decode(_unmarked(data))


def _unmarked(data: bytes) -> bytes:
    return data.removeprefix(_BOM)


def _textual_reader(decode_json: Callable[[bytes], Any], wanted: Any) -> Callable[[bytes], Any]:
    """Reads a type whose JSON is a text, such as a date: with the quotes of JSON, or without."""
    import msgspec

    def read(data: bytes) -> Any:
        try:
            return decode_json(_unmarked(data))
        except ValueError as error:
            try:
                return convert(_unmarked(data).decode(), wanted)
            except ValueError as other:
                raise (other if isinstance(error, msgspec.DecodeError) else error) from None

    return read


def _check_type(info: Any, wanted: Any, *, may_hold_bytes: bool) -> bool:
    """Whether a type is written as a text in JSON. `DataError` if a part of it is none that JSON can be read as."""
    import msgspec.inspect as inspected

    binary = inspected.BytesType | inspected.ByteArrayType | inspected.MemoryViewType
    seen: set[int] = set()
    found = [info]
    while found:
        one = found.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, inspected.CustomType):
            _check_custom(one.cls)
        if isinstance(one, binary) and not may_hold_bytes:
            raise DataError(f"{name_of(wanted)} has bytes inside, which JSON does not hold. {_NO_BYTES}")
        found += _parts(one)
    textual = (
        inspected.EnumType | inspected.LiteralType | inspected.DateTimeType | inspected.DateType | inspected.TimeType
    )
    textual |= inspected.TimeDeltaType | inspected.UUIDType | inspected.DecimalType
    alternatives = info.types if isinstance(info, inspected.UnionType) else (info,)
    kinds = [kind for kind in alternatives if not isinstance(kind, inspected.NoneType)]
    return all(isinstance(kind, textual) or _is_path(kind) for kind in kinds)


def _is_path(info: Any) -> bool:
    cls = getattr(info, "cls", None)
    return isinstance(cls, type) and issubclass(cls, os.PathLike)


def _parts(info: Any) -> list[Any]:
    """The types that a type is made of."""
    parts = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type")]
    parts += list(getattr(info, "item_types", ())) + list(getattr(info, "types", ()))
    parts += [field.type for field in getattr(info, "fields", ())]
    parts.append(getattr(info, "type", None))
    return [part for part in parts if part is not None and not isinstance(part, type)]


def _check_custom(wanted: Any) -> None:
    origin = typing.get_origin(wanted) or wanted
    if origin is Iterable:
        json_decoder(as_list(wanted))
        return
    if hasattr(origin, "model_validate"):
        return
    if not (isinstance(origin, type) and issubclass(origin, pathlib.PurePath)):
        raise DataError(f"{name_of(wanted)} is not a type that JSON can be read as. {_WAY_OUT}")


def _is_pydantic(wanted: Any) -> bool:
    """Whether pydantic has to read `wanted`: a model or a pydantic dataclass is in it, or a constraint of its own."""
    if typing.get_origin(wanted) is typing.Annotated:
        marks = [type(mark).__module__.partition(".")[0] for mark in wanted.__metadata__]
        return "pydantic" in marks or "annotated_types" in marks or _is_pydantic(wanted.__origin__)
    if hasattr(wanted, "__value__"):
        return _is_pydantic(wanted.__value__)
    inner = any(_is_pydantic(argument) for argument in typing.get_args(wanted))
    return inner or hasattr(typing.get_origin(wanted) or wanted, "__pydantic_core_schema__")


def _key(key: str, wanted: Any, what: str) -> Any:
    if wanted in (str, Any):
        return key
    try:
        return convert(key, wanted, strict=False)
    except ValueError as error:
        raise DataError(f"{what} wants {name_of(wanted)} as keys but {key!r} is not: {error}") from error


def _object(inputs: Mapping[str, bytes], wanted: Any, what: str) -> Any:
    """A dataclass or model with a field for each id."""
    hints = _fields(wanted)
    values = {id: _part(data, hints.get(id, Any), f"{what}, for {id!r},") for id, data in inputs.items()}
    try:
        if hasattr(wanted, "model_validate"):
            return wanted.model_validate(values)
        return convert(values, wanted, builtin_types=(bytes, bytearray, memoryview))
    except ValueError as error:
        raise DataError(f"{what} wants {name_of(wanted)} but its input is not: {error}") from error


def _part(data: bytes, hint: Any, what: str) -> Any:
    try:
        form = form_of(hint)
    except DataError:
        form = Form(Kind.JSON, bytes)
    if form.may_be_none and not data:
        return None
    try:
        if form.kind is Kind.JSON or _stripped(hint)[0] in _ANYTHING:
            return _json_or_text(data)
        return form.read(data)
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is given binary data. Annotate the field as bytes.") from error


def _fields(wanted: Any) -> dict[str, Any]:
    """The annotations of the fields of a class, by the names under which they are given."""
    origin = typing.get_origin(wanted) or wanted
    if hasattr(origin, "model_fields"):
        return {field.alias or name: field.annotation for name, field in origin.model_fields.items()}
    is_object = is_dataclass(origin) or typing.is_typeddict(origin)
    if not (is_object or hasattr(origin, "__struct_fields__") or hasattr(origin, "__attrs_attrs__")):
        return {}
    try:
        return typing.get_type_hints(origin, include_extras=True) or {"": Any}
    except Exception:  # names that do not exist; the reader of the whole says so
        return {"": Any}
