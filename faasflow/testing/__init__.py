"""What users of the package test with: `FlowTester` for flows, contracts for stores, faults and a clock for both."""

from __future__ import annotations

from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.ports import OutgoingCall, Response
from faasflow.testing.clock import FakeClock
from faasflow.testing.faults import FlakyTransport
from faasflow.testing.tester import FlowTester, Outcome
from faasflow.testing.transport import InProcessTransport

__all__ = [
    "FakeClock",
    "FlakyTransport",
    "FlowTester",
    "InProcessTransport",
    "NodeState",
    "Outcome",
    "OutgoingCall",
    "RequestState",
    "Response",
]
