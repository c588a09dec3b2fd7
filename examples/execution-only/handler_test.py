from faasflow.testing import FlowTester

from .handler import define


def test_keeps_the_order_and_hands_on_no_data():
    outcome = FlowTester(define).run(b"source")

    assert outcome.result.decode().splitlines() == [
        "build was given 6 bytes",
        "prepare was given 0 bytes",
        "lint was given 0 bytes",
        "test was given 0 bytes",
    ]


def test_publishes_after_both_ends_of_the_checks():
    ran = FlowTester(define).run(b"source").ran

    assert ran[:2] == ["build", "checks/prepare"]
    assert ran[-1] == "publish"
    assert {"checks/lint", "checks/test"} < set(ran)
