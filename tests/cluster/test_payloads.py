"""Values of any size pass through a chain byte for byte, and a process never holds more than a few of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.cluster.installation import Cluster

MEGABYTE = 1024 * 1024
COPIES = 6


def passed_on(data: bytes) -> bytes:
    return data


def chain(flow, context):
    dag = flow.dag()
    dag.node("first").modify(passed_on)
    dag.node("second").apply("pass-on", timeout=120)
    dag.node("third").modify(passed_on)
    dag.edge("first", "second")
    dag.edge("second", "third")


@pytest.mark.parametrize("size", [0, 1024, MEGABYTE, 100 * MEGABYTE])
def test_a_payload_of_any_size_passes_byte_for_byte(cluster: Cluster, size: int) -> None:
    payload = hashlib.shake_256(b"payload").digest(min(size, MEGABYTE)) * max(1, size // MEGABYTE)
    flow = cluster.run_flow(chain, {"pass-on": passed_on})
    before = [peak_memory(replica.process.pid) for replica in cluster.replicas]

    outcome = flow.run(payload)

    assert outcome.error == ""
    assert hashlib.sha256(outcome.result or b"").digest() == hashlib.sha256(payload).digest()
    assert [len(call.body) for call in flow.calls("pass-on")] == [size]
    grown = [peak_memory(replica.process.pid) - was for replica, was in zip(cluster.replicas, before, strict=True)]
    assert max(grown) <= COPIES * size + 32 * MEGABYTE


def peak_memory(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
