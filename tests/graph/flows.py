"""The flows that the tests of the exports draw."""

from __future__ import annotations

from collections.abc import Callable

from faasflow import Dag, Flow
from faasflow.graph import Definition


def shrink(data: bytes) -> bytes:
    return data


def split(data: bytes) -> dict[str, bytes]:
    return {}


def choose(data: bytes) -> str:
    return "small"


def collect(results: dict[str, bytes]) -> bytes:
    return b""


def built(write: Callable[[Dag], None]) -> Definition:
    """The definition of a flow whose DAG `write` fills."""
    flow = Flow()
    write(flow.dag())
    return flow.build()


def photos(dag: Dag) -> None:
    """Each thing there is: operations of all kinds, a foreach, a condition with a foreach inside, a sub-DAG, edges
    that only order, and a join without operations."""
    dag.node("fetch").apply("download").modify(shrink)
    each = dag.foreach_branch("photos", split, aggregator=collect, max_parallel=4)
    each.node("detect").apply("face-detect", on_failure=shrink)
    each.node("crop").apply("image-resizer")
    each.edge("detect", "crop")
    cases = dag.conditional_branch("size", ["small", "very big"], choose, aggregator=collect)
    cases["small"].node("keep").modify(lambda data: data)
    tiles = cases["very big"].foreach_branch("tiles", split, forward=False)
    tiles.node("tile").apply("tiler")
    pack = Dag()
    pack.node("zip").apply("zip")
    pack.node("sign").modify(shrink)
    pack.edge("zip", "sign")
    dag.sub_dag("pack", pack)
    dag.node("audit").request("https://me:secret@audit.example.com/log?token=secret#secret", on_response=shrink)
    dag.node("all", aggregator=collect)
    dag.edge("fetch", "photos")
    dag.edge("fetch", "size")
    dag.edge("fetch", "audit", forward=False)
    dag.edge("photos", "all")
    dag.edge("size", "pack")
    dag.edge("pack", "all")
    dag.edge("audit", "all", forward=False)


def two_ends(dag: Dag) -> None:
    for id in ("a", "b", "c"):
        dag.node(id).apply(id)
    dag.edge("a", "b")
    dag.edge("a", "c")


def order_only(dag: Dag) -> None:
    dag.node("a").apply("a")
    dag.node("b").apply("b")
    dag.edge("a", "b", forward=False)
