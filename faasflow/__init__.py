"""Function composition for OpenFaaS: chains, DAGs, branches and joins, written as one Python function."""

from __future__ import annotations

from faasflow.dsl import CustomOperation, Dag, Flow, Node
from faasflow.errors import DefinitionError, FaasflowError, Fatal
from faasflow.events import Event, EventHandler
from faasflow.graph.policy import Retry

__version__ = "0.1.0"
__all__ = [
    "CustomOperation",
    "Dag",
    "DefinitionError",
    "Event",
    "EventHandler",
    "FaasflowError",
    "Fatal",
    "Flow",
    "Node",
    "Retry",
    "__version__",
]
