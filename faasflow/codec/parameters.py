"""What the parameter of a callable is called, and which type its annotation asks for."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import typing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from faasflow.errors import DataError

_AS_GIVEN = (int, float, bool, complex, bytes, bytearray, memoryview, object, type)
_READ_AS = (str, list, dict, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class Parameter:
    """The parameter of a callable that is given the data: its name, and the type that it asks for. What is given
    results by id may ask for another type by its annotation only. A callable that `yields` is a generator function."""

    name: str
    wanted: Any = bytes
    is_annotated: bool = False
    yields: bool = False


_known: WeakKeyDictionary[Any, dict[Any, Parameter]] = WeakKeyDictionary()


def parameter_type(code: Any) -> Any:
    """The annotation of the first parameter of `code`, `bytes` if it has none. `DataError` where it cannot be found."""
    return parameter_of(code).wanted


def results_type(code: Any) -> Any:
    """The annotation of the first parameter of `code`, which is given results by id; `dict` if it has none."""
    parameter = parameter_of(code)
    return parameter.wanted if parameter.is_annotated else dict


def parameter_of(code: Any, *, count: int = 1) -> Parameter:
    """The first parameter of `code`, which is called with `count` arguments. `DataError` if it cannot be, or if its
    annotation cannot be resolved."""
    function = code
    shape: tuple[Any, ...] = (count,)
    if isinstance(code, functools.partial):
        function, shape = code.func, (count, len(code.args), *sorted(code.keywords))
    elif isinstance(code, types.MethodType):
        function, shape = code.__func__, (count, code.__self__.__class__)
    try:
        known = _known.setdefault(function, {})
    except TypeError:  # a callable that is not hashable, or a method of a builtin type
        return _found(code, count)
    if shape not in known:
        known[shape] = _found(code, count)
    return known[shape]


def name_of(code: Any) -> str:
    """The name of a callable, as errors show it."""
    code = getattr(code, "func", code)
    return str(getattr(code, "__qualname__", None) or type(code).__name__).rpartition("<locals>.")[2]


def _found(code: Any, count: int) -> Parameter:
    if isinstance(code, type) and code in (*_AS_GIVEN, *_READ_AS):
        return Parameter("data", code if code in _READ_AS else bytes)
    if isinstance(code, types.MethodDescriptorType | types.WrapperDescriptorType):  # such as str.upper
        return Parameter("self", code.__objclass__, is_annotated=True)
    try:
        signature = inspect.signature(code)
    except (TypeError, ValueError):  # builtins without a signature
        return Parameter("data")
    except NameError as error:  # annotations that are evaluated late, since Python 3.14
        raise _unresolved(code, "", error) from error
    try:
        bound = signature.bind(*[None] * count)
    except TypeError as error:
        given = "one argument" if count == 1 else f"{count} arguments"
        raise DataError(f"{name_of(code)}{signature} cannot be called with {given}: {error}.") from error
    parameter = signature.parameters[next(iter(bound.arguments))]
    if parameter.annotation is inspect.Parameter.empty:
        return Parameter(parameter.name, yields=_yields(code))
    return Parameter(parameter.name, _resolved(code, parameter.annotation), True, _yields(code))


def _yields(code: Any) -> bool:
    function = _called(code)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _called(code: Any) -> Any:
    """The function that runs when `code` is called."""
    code = getattr(code, "func", code)
    is_function = isinstance(code, types.FunctionType | types.MethodType)
    return code if is_function else _call_of(code)


def _resolved(code: Any, annotation: Any) -> Any:
    """The annotation without names that are only text."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation
    function = _function_of(code)
    names = _closed_over(function) if isinstance(function, types.FunctionType) else {}
    holder = SimpleNamespace(__annotations__={"data": annotation})
    try:
        known = getattr(function, "__globals__", {})
        return typing.get_type_hints(holder, known, names, include_extras=True)["data"]
    except Exception as error:
        raise _unresolved(code, annotation, error) from error


def _closed_over(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            found[name] = cell.cell_contents
    return found


def _function_of(code: Any) -> Any:
    code = getattr(code, "func", code)
    if isinstance(code, type):
        return inspect.unwrap(getattr(code, "__init__"))  # noqa: B009
    function = inspect.unwrap(code)
    function = getattr(function, "__func__", function)
    return function if isinstance(function, types.FunctionType) else _call_of(code)


def _call_of(code: Any) -> Any:
    return getattr(type(code), "__call__", None)  # noqa: B004


def _unresolved(code: Any, annotation: Any, error: Exception) -> DataError:
    return DataError(
        f"The annotation {annotation!r} of {name_of(code)!r} cannot be resolved: {error}. Define or import the type at "
        "the top of the module, outside of `if TYPE_CHECKING`."
    )
