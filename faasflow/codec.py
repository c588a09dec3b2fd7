"""Between bytes, which is what travels, and the types that a callable's annotations ask for.

Decoding and checking against dataclasses, `dict`, `list` and the like is msgspec's work, that of models pydantic's own;
both are imported only when a callable asks for them.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from faasflow.errors import DataError

_BYTES = (inspect.Parameter.empty, Any, bytes, object)


def encode(value: Any, what: str) -> bytes:
    """`value` as bytes: bytes as they are, text as UTF-8, `None` as empty, everything else as JSON. `DataError`, which
    names `what`, for what JSON cannot hold."""
    match value:
        case bytes():
            return value
        case None:
            return b""
        case str():
            return value.encode()
        case bytearray() | memoryview():
            return bytes(value)
    return _encode_json(value, what)


def decode(data: bytes, wanted: Any, what: str) -> Any:
    """`data` as the type `wanted`; `DataError`, which names `what`, if it is not that."""
    if wanted in _BYTES:
        return data
    try:
        return data.decode() if wanted is str else _decode_json(data, wanted)
    except ValueError as error:
        raise DataError(f"{what} wants {_name(wanted)} but its input is not: {error}") from error


def decode_each(inputs: Mapping[str, bytes], wanted: Any, what: str) -> Any:
    """What an aggregator annotated with `wanted` is given for `inputs`.

    A bare `dict` or none: bytes by id. `dict[str, T]`: a `T` by id. `list[T]`: each `T`, in order. A dataclass or
    model: its fields are the ids, their values JSON.
    """
    origin, arguments = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if origin in _BYTES or (origin in (dict, Mapping) and not arguments):
        return dict(inputs)
    if origin in (dict, Mapping):
        return {key: decode(data, arguments[1], f"{what}, for {key!r},") for key, data in inputs.items()}
    if origin in (list, Sequence):
        wanted = arguments[0] if arguments else Any
        return [decode(data, wanted, f"{what}, for {key!r},") for key, data in inputs.items()]
    return decode(_encode_json({key: readable(data) for key, data in inputs.items()}, what), wanted, what)


def readable(data: bytes) -> Any:
    """`data` as it reads best inside JSON: what it holds if it is JSON, else text, else base64 text."""
    import base64

    import msgspec

    try:
        return msgspec.json.decode(data)
    except ValueError:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def parameter_type(code: Any) -> Any:
    """The annotation of the first parameter of `code`, `bytes` if it has none. `DataError` where it cannot be found."""
    if isinstance(code, type) or not callable(code):
        return bytes
    try:
        parameters = list(inspect.signature(code).parameters.values())
    except (TypeError, ValueError):  # builtins without a signature
        return bytes
    if not parameters or not isinstance(parameters[0].annotation, str):
        return parameters[0].annotation if parameters else bytes
    return _resolve(code, parameters[0])


def _resolve(code: Any, parameter: inspect.Parameter) -> Any:
    function = inspect.unwrap(getattr(code, "func", code))
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        function = type(code).__call__
    names = inspect.getclosurevars(function).nonlocals if isinstance(function, types.FunctionType) else {}
    try:
        return eval(parameter.annotation, getattr(function, "__globals__", {}), dict(names))
    except Exception as error:
        name = getattr(code, "__name__", repr(code))
        raise DataError(
            f"The annotation {parameter.annotation!r} of {name!r} cannot be found: {error}. Define the type at the top "
            "of the module."
        ) from error


def _encode_json(value: Any, what: str) -> bytes:
    import msgspec

    try:
        if hasattr(value, "model_dump_json"):
            return str(value.model_dump_json()).encode()
        return msgspec.json.encode(value, enc_hook=_encode_model)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what} returned {type(value).__name__}, which JSON cannot hold: {error}") from error


def _encode_model(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is neither bytes, text nor JSON")


def _decode_json(data: bytes, wanted: Any) -> Any:
    import msgspec

    return msgspec.json.decode(data, type=wanted, strict=True, dec_hook=_decode_model)


def _decode_model(wanted: type, value: Any) -> Any:
    if hasattr(wanted, "model_validate"):
        return wanted.model_validate(value)
    raise NotImplementedError(f"{wanted.__name__} is not a type that JSON can be read as")


def _name(wanted: Any) -> str:
    return wanted.__name__ if isinstance(wanted, type) else str(wanted)
