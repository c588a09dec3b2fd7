"""The laptop: an embedded gateway that hosts the functions of a stack file and speaks the OpenFaaS API.

It owns the stack file, the processes of the functions, the durable queue of asynchronous calls and the HTTP surface of
a gateway; it knows nothing of flows beyond the settings it gives them. It is written from the documented behaviour of
OpenFaaS, for development, tests and small single-machine installations.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faasflow.local.gateway import Gateway
    from faasflow.local.platform import up
    from faasflow.local.stack import FunctionSpec, Stack, load_stack

__all__ = ["FunctionSpec", "Gateway", "Stack", "load_stack", "up"]

_HOMES = {"Gateway": "gateway", "up": "platform", "FunctionSpec": "stack", "Stack": "stack", "load_stack": "stack"}


def __getattr__(name: str) -> Any:
    # A function's process lives in this package as well, and must not pay for importing the gateway.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
