"""From what user code returns to bytes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence, Set, ValuesView
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from faasflow.errors import DataError

_BINARY = (bytes, bytearray, memoryview)
_NO_BYTES = "Return the bytes alone, or text made of them, such as base64.b64encode(value).decode()."


def encode(value: Any, what: str, *, verb: str = "returned") -> bytes:
    """`value` as bytes: bytes as they are, text as UTF-8, `None` as empty, everything else as JSON. `DataError`, which
    names `what`, for what none of them can hold."""
    match value:
        case bytes():
            return value
        case None:
            return b""
        case bytearray() | memoryview():
            return bytes(value)
        case str():
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                raise DataError(f"{what} {verb} a text that is not valid Unicode: {ascii(value)[:100]}.") from error
    return encode_json(value, what, verb=verb)


def encode_json(value: Any, what: str, *, verb: str = "returned") -> bytes:
    """`value` as JSON. `DataError`, which names `what` and the place in `value`, for what JSON cannot hold."""
    try:
        return _dumped(value)
    except Exception:  # code of the value's own class may run here
        pass
    try:
        return _dumped(_plain(value, "$"))
    except _Refused as refused:
        reason = str(refused)
    except RecursionError:
        reason = "it is nested too deeply, or contains itself."
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    raise DataError(f"{what} {verb} {type(value).__name__}, which JSON cannot hold: {reason}")


class _Refused(Exception):
    """Says which part of a value JSON cannot hold."""


def _dumped(value: Any) -> bytes:
    text = json.dumps(value, default=_opened, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _plain(value: Any, path: str) -> Any:
    """`value` with nothing but what JSON has; `_Refused` names the first part that it has not."""
    match value:
        case None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise _Refused(f"{path} is {float(value)!r}. Return None where there is no number.")
            return value
        case str():
            return _text(value, path)
        case dict():
            return {_key(key, path): _plain(inner, f"{path}.{key}") for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
        case _ if isinstance(value, _BINARY):
            raise _Refused(f"{path} is {type(value).__name__}. {_NO_BYTES}")
    try:
        opened = _opened(value)
    except (RecursionError, _Refused):
        raise
    except Exception as error:
        raise _Refused(f"{path}: {error}") from error
    return _plain(opened, path)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refused(f"{path} is a text that is not valid Unicode: {ascii(value)[:100]}.") from None
    return value


def _key(key: Any, path: str) -> Any:
    if isinstance(key, str):
        return _text(key, f"a key of {path}")
    if isinstance(key, float) and not math.isfinite(key):
        raise _Refused(f"{path} has the key {float(key)!r}. Make its keys text.")
    if key is None or isinstance(key, bool | int | float):
        return key
    try:
        opened = _opened(key)
    except TypeError:
        opened = None
    if not isinstance(opened, str):
        raise _Refused(f"{path} has the key {key!r}, a {type(key).__name__}. Make its keys text.")
    return opened


def _opened(value: Any) -> Any:
    """One step from an object towards JSON; `TypeError` for one that has no form in it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(type(value), "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist") and not isinstance(value, _BINARY):  # numpy, pandas, array.array
        return value.tolist()
    if isinstance(value, Set | ValuesView | Sequence) and not isinstance(value, _BINARY):
        return list(value)
    return _opened_by_msgspec(value)


def _opened_by_msgspec(value: Any) -> Any:
    """A `Struct`, or a date, a UUID or a number that JSON writes as text."""
    import msgspec

    if isinstance(value, msgspec.Struct):
        return _opened_struct(value)
    opened = None if isinstance(value, _BINARY) else msgspec.to_builtins(value, enc_hook=_refuse)
    if not isinstance(opened, str):
        _refuse(value)
    return opened


def _opened_struct(value: Any) -> Any:
    import msgspec

    config = value.__struct_config__
    given = [(field, getattr(value, field.name)) for field in msgspec.structs.fields(value)]
    if config.array_like:
        return [*([] if config.tag is None else [config.tag]), *(inner for _, inner in given)]
    return ({} if config.tag is None else {config.tag_field: config.tag}) | {
        field.encode_name: inner
        for field, inner in given
        if inner is not msgspec.UNSET and not (config.omit_defaults and _is_default(field, inner))
    }


def _is_default(field: Any, value: Any) -> bool:
    import msgspec

    if field.default is not msgspec.NODEFAULT:
        return bool(value == field.default)
    return field.default_factory in (list, dict, set, tuple) and value == field.default_factory()


def _refuse(value: Any) -> Any:
    name = type(value).__name__
    if hasattr(value, "__next__"):
        raise TypeError(f"{name} is read only once. Return a list of what it gives.")
    raise TypeError(f"{name} is neither bytes, text nor JSON. Return a dict, a list, a dataclass or a model.")
