from faasflow.testing import FlowTester

from .handler import define


def make_tester():
    tester = FlowTester(define)
    tester.function("func1", lambda body: body + b"-1")
    tester.function("fake-storage", lambda body: body)
    return tester


def test_has_a_branch_for_every_word():
    outcome = make_tester().run(b"to be")

    assert outcome.result == b"[c1=[f1=modifier(TO) f2=modifier(BE)] c2=modifier(TO BE-1)]"


def test_goes_on_where_there_is_no_word():
    outcome = make_tester().run(b"")

    assert outcome.result == b"[c1=[] c2=modifier(-1)]"
