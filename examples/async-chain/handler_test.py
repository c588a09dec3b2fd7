from faasflow.testing import FlowTester

from .handler import define


def make_tester():
    tester = FlowTester(define)
    tester.function("func1", lambda body: body + b"-1")
    tester.function("func2", lambda body: body + b"-2")
    tester.function("fake-storage", lambda body: b"stored")
    return tester


def test_stores_the_result_of_the_chain():
    tester = make_tester()

    outcome = tester.run(b"in")

    assert outcome.result == b"stored"
    assert [call.body for call in tester.calls("fake-storage")] == [b"modifier(in-1-2)"]
    assert outcome.ran == ["n1", "n2", "n3", "$finally"]


def test_logs_how_the_request_ended(caplog):
    caplog.set_level("INFO")

    outcome = make_tester().run(b"in", request_id="a-request")

    assert outcome.request_id == "a-request"
    assert "Request a-request ended with success." in caplog.text
