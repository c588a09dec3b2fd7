from faasflow.testing import FlowTester

from .handler import define


def test_joins_a_foreach_a_plain_node_and_a_condition():
    outcome = FlowTester(define).run(b"a-b")

    parts = b"foreach=[0=node2(node1(a)) 1=node2(node1(b))]"
    cases = b"condition=[left=node2(node1(a-b)) right=node2(node1(a-b))]"
    assert outcome.result == b"[" + parts + b" parallel=parallel2(parallel1(a-b)) " + cases + b"]"


def test_brings_its_own_input_where_none_is_sent():
    assert b"2=node2(node1(cc))" in FlowTester(define).run().result
