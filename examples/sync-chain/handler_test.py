from faasflow.testing import FlowTester

from .handler import define


def test_calls_both_functions_in_order_and_modifies_the_result():
    tester = FlowTester(define)
    tester.function("func1", lambda body: body + b"-1")
    tester.function("func2", lambda body: body + b"-2")

    outcome = tester.run(b"in")

    assert outcome.result == b"modifier(in-1-2)"
    assert outcome.ran == ["sync"]
