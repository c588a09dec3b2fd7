import pytest

from faasflow.testing import FlowTester

from .handler import define


@pytest.mark.parametrize(("numbers", "total"), [(b"3", b"9"), (b"1,2,3", b"14"), (b"2,2", b"8"), (b"", b"0")])
def test_adds_the_squares(numbers, total):
    tester = FlowTester(define)
    tester.function("square", lambda body: b"%d\n" % int(body) ** 2)
    tester.function("add", lambda body: b"%d" % sum(int(square) for square in body.split(b",") if square))

    outcome = tester.run(numbers)

    assert outcome.result == total
