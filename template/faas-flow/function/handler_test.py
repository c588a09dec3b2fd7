"""Runs in process what the build of the image runs too; the build ends where a test fails.

Write tests of your flow in place of this one, such as

    outcome = FlowTester(flow.define).run(b"hello")
    assert outcome.result == b'you said "hello"'

Where this file is missing, the build takes it from the template again, so what is here holds for every flow.
"""

from pathlib import Path

from faasflow.runtime import load_handler
from faasflow.testing import FlowTester

flow = load_handler(Path(__file__).parent)


def test_the_flow_can_be_defined():
    FlowTester(flow.define)
