"""The options of nodes, calls and branches: what each may be, and what is made of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from faasflow import graph
from faasflow.dsl.callables import Given, check_code
from faasflow.dsl.place import Place
from faasflow.graph.policy import Retry

Values = Mapping[str, str | Iterable[str]]
OnError = Literal["stop", "continue"]
OnBranchError = Literal["stop", "collect"] | float


class CallOptions(TypedDict, total=False):
    """The options of `apply` and `request`.

    `timeout` is in seconds. `retry` tries this call again, in place of the policy of its node. `on_request(call)` may
    change the `OutgoingCall`. `on_response(response)` replaces the check of the status and gives the result.
    `on_failure(error)` is called when the call fails: what it returns is taken as the result, what it raises fails the
    node.
    """

    headers: Mapping[str, str] | None
    query: Values | None
    method: str | None
    timeout: float | None
    retry: Retry | None
    on_failure: graph.Callback | None
    on_request: graph.Callback | None
    on_response: graph.Callback | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What `node` was given besides the id; `None` for what it was not given."""

    aggregator: graph.Callback | None = None
    retry: Retry | None = None
    timeout: float | None = None
    at_most_once: bool | None = None
    on_error: OnError | None = None

    def check(self, place: Place, node: str) -> None:
        """Refuse options that cannot be meant."""
        for option, value in self.given():
            check(place, option, value, f"node {node!r}")

    def given(self) -> Iterable[tuple[str, Any]]:
        """Every option that was given, with its value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield field.name, value

    def and_also(self, more: NodeOptions, place: Place, node: str) -> NodeOptions:
        """These options and `more`, which may not contradict them."""
        ours = dict(self.given())
        for option, value in more.given():
            if ours.setdefault(option, value) != value:
                raise place.error(
                    f"Node {node!r} has {shown(option, ours[option])} already and cannot have "
                    f"{shown(option, value)} as well. Give it once."
                )
        return NodeOptions(**ours)


def operation(
    place: Place, node: str, kind: graph.OperationKind, name: str, options: CallOptions, call: str
) -> graph.Operation:
    """The operation that `apply` or `request` of `node` asks for."""
    for option, value in options.items():
        if option not in CallOptions.__annotations__:
            raise place.error(f"{call} of node {node!r} has no option {option!r}. {_known(option)}")
        if value is not None:
            check(place, option, value, f"{name!r} of node {node!r}")
    method = options.get("method")
    return graph.Operation(
        kind,
        name,
        headers={str(key): str(value) for key, value in (options.get("headers") or {}).items()},
        query=tuple(_pairs(options.get("query") or {})),
        method=method.upper() if method else None,
        timeout=options.get("timeout"),
        retry=options.get("retry"),
        on_failure=options.get("on_failure"),
        on_request=options.get("on_request"),
        on_response=options.get("on_response"),
    )


def check(place: Place, option: str, value: Any, owner: str) -> None:
    """Refuse a value that `option` of `owner` cannot have."""
    if option in _CODE:
        return check_code(place, value, f"{option} of {owner}", _CODE[option])
    is_right, way_out = _RULES[option]
    if not is_right(value):
        raise place.error(f"The {option} of {owner} is {value!r}. {way_out}")
    return None


def check_max_parallel(place: Place, node: str, value: Any) -> None:
    """Refuse anything but a number of branches, or `None` for all."""
    if value is not None and not (_is_whole(value) and value > 0):
        raise place.error(f"The max_parallel of node {node!r} is {value!r}. Give a whole number above 0, or None.")


def tolerated(place: Place, node: str, on_error: OnBranchError) -> float | None:
    """How many branches (`int`) or what share of them (`float`) may fail; `None` for not even one."""
    if on_error == "stop":
        return None
    if on_error == "collect":
        return 1.0
    if (_is_whole(on_error) and on_error >= 0) or (isinstance(on_error, float) and 0 <= on_error <= 1):
        return on_error
    raise place.error(
        f"The on_error of node {node!r} is {on_error!r}. "
        "Give 'stop', 'collect', how many branches may fail (2), or what share of them, from 0.0 to 1.0."
    )


def shown(option: str, value: Any) -> str:
    """An option as it is written."""
    return f"{option}={name_of(value) if callable(value) else repr(value)}"


def name_of(code: Any) -> str:
    """The name of a callable."""
    code = getattr(code, "func", code)  # what a functools.partial calls
    name = getattr(code, "__name__", type(code).__name__)
    return "modifier" if name == "<lambda>" else str(name)


def _known(option: str) -> str:
    known = CallOptions.__annotations__
    near = difflib.get_close_matches(option, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known)}."


def _pairs(query: Values) -> Iterable[tuple[str, str]]:
    for key, value in query.items():
        for one in [value] if isinstance(value, str) or not isinstance(value, Iterable) else value:
            yield str(key), str(one)


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Rule = tuple[Callable[[Any], bool], str]
_CODE = {
    "aggregator": Given.RESULTS,
    "on_failure": Given.OBJECT,
    "on_request": Given.OBJECT,
    "on_response": Given.OBJECT,
}
_DICT: _Rule = (lambda value: isinstance(value, Mapping), "Give a dict.")
_RULES: dict[str, _Rule] = {
    "at_most_once": (lambda value: isinstance(value, bool), "Give True or False."),
    "headers": _DICT,
    "method": (lambda value: isinstance(value, str), "Give a text such as 'PUT'."),
    "on_error": (lambda value: value in ("stop", "continue"), "Give 'stop' or 'continue'."),
    "query": _DICT,
    "retry": (lambda value: isinstance(value, Retry), "Give a Retry, such as Retry(attempts=3)."),
    "timeout": (_is_duration, "Give a number of seconds above 0."),
}
