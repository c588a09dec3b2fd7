"""How long a wide foreach takes on SQLite, and what it costs the store; a branch must cost the same at every width.

Usage: python bench/foreach.py [WIDTH ...]      (default: 1000 10000)

Prints one row a width: seconds, milliseconds a branch, and the writes and reads of the state store a branch. Times are
those of this machine and moment; only the ratio between the rows of one run means something.
"""

from __future__ import annotations

import sys
import tempfile
import time

from faasflow.stores import open_data_store, open_state_store
from faasflow.testing import FlowTester
from faasflow.testing.counting import CountingStore


def define(flow, context):
    """Square the numbers below the body, a branch each, and add the squares."""
    dag = flow.dag()
    branch = dag.foreach_branch(
        "each",
        lambda data: {str(number): str(number) for number in range(int(data))},
        aggregator=lambda squares: sum(int(square) for square in squares.values()),
    )
    branch.node("square").modify(lambda data: str(int(data) ** 2))


def measure(width: int) -> tuple[float, int, int]:
    """Seconds, writes and reads of one request with `width` branches, on a new SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        state, data = open_state_store(f"sqlite://{folder}/flow.db"), open_data_store(f"sqlite://{folder}/flow.db")
        state.init()
        data.init()
        counted = CountingStore(state)
        started = time.perf_counter()
        outcome = FlowTester(define, state=counted, data=data).run(str(width).encode())
        seconds = time.perf_counter() - started
        assert outcome.result == str(sum(number**2 for number in range(width))).encode(), outcome.error
        state.close()
        data.close()
    return seconds, counted.writes, counted.reads


def main(widths: list[int]) -> None:
    """Measure and print every width."""
    print(f"{'branches':>8}  {'seconds':>8}  {'ms/branch':>9}  {'writes/branch':>13}  {'reads/branch':>12}")
    for width in widths:
        seconds, writes, reads = measure(width)
        cost = seconds / width * 1000
        print(f"{width:>8}  {seconds:>8.2f}  {cost:>9.3f}  {writes / width:>13.3f}  {reads / width:>12.3f}")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [1000, 10_000])
