"""The fluent front end: `Flow`, `Dag` and `Node` collect what a handler's `define` says and build the immutable graph.

A mistake is raised by the call that makes it. What only the finished definition can show (no node, two starts, a join
without an aggregator, a node with nothing to do) is raised by `Flow.build`, with the line at which the node was
written. Names and meanings follow the Go API of Faas-flow; where they differ the docstring says so.
"""

from __future__ import annotations

from faasflow.dsl.custom import CustomOperation
from faasflow.dsl.dag import Dag
from faasflow.dsl.flow import Flow
from faasflow.dsl.node import Node

__all__ = ["CustomOperation", "Dag", "Flow", "Node"]
