"""The composition root: a handler and settings become an engine, and an engine becomes a served function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faasflow import graph
from faasflow.dsl import Flow
from faasflow.engine.context import Context
from faasflow.errors import DefinitionError, FaasflowError


def definer(define: Callable[[Any, Any], Any]) -> Callable[[Context], graph.Definition]:
    """What runs a handler's `define` for one request. A mistake of its own is a `DefinitionError` too."""

    def defined(context: Context) -> graph.Definition:
        flow = Flow()
        try:
            define(flow, context)
        except FaasflowError:
            raise
        except Exception as error:
            raise DefinitionError(f"define() failed with {type(error).__name__}: {error}") from error
        return flow.build()

    return defined
