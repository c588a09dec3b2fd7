from faasflow.testing import FlowTester

from .handler import define


def test_greets_by_name():
    assert FlowTester(define).run(b"Ada\n").result == b"Hello Ada"


def test_greets_the_world_where_no_name_is_sent():
    assert FlowTester(define).run().result == b"Hello world"
