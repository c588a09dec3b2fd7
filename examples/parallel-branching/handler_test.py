from faasflow.testing import FlowTester

from .handler import define


def test_joins_both_branches_before_it_stores():
    tester = FlowTester(define)
    tester.function("func1", lambda body: body + b"-1")
    tester.function("func2", lambda body: body + b"-2")
    tester.function("fake-storage", lambda body: body)

    outcome = tester.run(b"in")

    assert outcome.result == b"modifier(in)-1 and modifier(modifier(in)-2)"
    assert outcome.ran[0] == "n1"
    assert set(outcome.ran[1:3]) == {"n2", "n3"}
    assert outcome.ran[3:] == ["n4"]
