"""What user code may be: callables whose parameter is data that can be read as its annotation asks."""

from __future__ import annotations

from enum import Enum
from typing import Any

from faasflow.codec import check_annotation, check_each_annotation, parameter_of, results_type
from faasflow.dsl.place import Place
from faasflow.errors import DataError


class Given(Enum):
    """What a callable is given."""

    DATA = "data"
    RESULTS = "results by id"
    OBJECT = "an object of faasflow's"


def check_code(
    place: Place, code: Any, what: str, given: Given = Given.DATA, *, may_yield: bool = False, count: int = 1
) -> None:
    """Refuse what cannot be called with `count` arguments, the first of which is what is `given`."""
    if not callable(code):
        raise place.error(f"The {what} is {code!r}. Give a callable of one parameter.")
    try:
        parameter = parameter_of(code, count=count)
        if given is Given.DATA:
            check_annotation(parameter.wanted)
        elif given is Given.RESULTS:
            check_each_annotation(results_type(code))
    except DataError as error:
        raise place.error(f"The {what} is {shown(code)}. {error}") from error
    if parameter.yields and not may_yield:
        raise place.error(f"The {what} is {shown(code)}, which yields. Return one value, such as a list.")


def shown(code: Any) -> str:
    """A callable by its name."""
    code = getattr(code, "func", code)
    return repr(getattr(code, "__name__", type(code).__name__))
