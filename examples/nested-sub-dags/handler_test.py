from faasflow.testing import FlowTester

from .handler import define


def test_every_node_gets_what_its_predecessors_gave():
    outcome = FlowTester(define).run(b"in")

    first = "n7(n5(n3(n2(n1(in))) + n4(n2(n1(in)))) + n6(n2(n1(in))))"
    second = "n11(n9(n8(n1(in))) + n10(n8(n1(in))))"
    innermost = "n15.5(n15.3(n15.2(n15.1(n13(n1(in))))) + n15.4(n15.1(n13(n1(in)))))"
    third = f"n16(n14(n13(n1(in))) + {innermost})"
    assert outcome.result.decode() == f"n17({first} + {second} + {third})"


def test_every_node_runs_once():
    outcome = FlowTester(define).run(b"in")

    plain = {f"n{number}" for number in range(1, 18)} - {"n12", "n13", "n14", "n15", "n16"}
    middle = {f"n12/n{number}" for number in (13, 14, 16)}
    inner = {f"n12/n15/n15.{number}" for number in range(1, 6)}
    assert sorted(outcome.ran) == sorted(plain | middle | inner)
