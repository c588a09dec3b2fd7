from faasflow.testing import FlowTester

from .handler import define


def test_runs_the_cases_that_the_conditions_choose_and_no_other():
    tester = FlowTester(define)
    tester.function("func1", lambda body: body + b"-1")
    tester.function("func2", lambda body: body + b"-2")
    tester.function("fake-storage", lambda body: body)

    outcome = tester.run(b"in")

    inner = b"(x2=modifier(modifier(in)-1)-2) + (x3=modifier(in)-1-2)"
    assert outcome.result == b"(c1=" + inner + b") + (c2=modifier(modifier(in)-1))"
    assert not [path for path in outcome.ran if "x1" in path]
