"""How a join loads the results that lie in the data store."""

from __future__ import annotations

import threading

import pytest

from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.engine.payload import Payloads
from faasflow.errors import KeyNotFoundError
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport
from faasflow.testing.wrappers import DataStoreWrapper

AT_ONCE = 3


class Meeting:
    """Where `size` threads wait for each other, and how many were there at once."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=10)
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def attend(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self._barrier.wait()
        with self._lock:
            self._inside -= 1


class MeetingStore(DataStoreWrapper):
    """Gives a result only when others are asked for at the same time."""

    meeting = Meeting(AT_ONCE)

    def _run(self, operation, call, *, is_write):
        return call()

    def get(self, key: str) -> bytes:
        if key.startswith("result/"):
            self.meeting.attend()
        return super().get(key)


def join_of_nodes(flow, context):
    dag = flow.dag()
    dag.node("start").modify(lambda data: data)
    dag.node("end", aggregator=joined).modify(lambda data: data)
    for number in range(6):
        dag.node(f"n{number}").modify(lambda data, number=number: b"%d" % number)
        dag.edge("start", f"n{number}", forward=False)
        dag.edge(f"n{number}", "end")


def foreach(flow, context):
    branch = flow.dag().foreach_branch("each", lambda data: [str(number) for number in range(6)], aggregator=joined)
    branch.node("work").modify(lambda data: data)


def joined(results):
    return b"".join(results[key] for key in sorted(results))


@pytest.mark.parametrize("define", [join_of_nodes, foreach])
def test_a_join_loads_its_results_at_the_same_time_and_a_bounded_number_of_them(define, monkeypatch) -> None:
    monkeypatch.setattr(MeetingStore, "meeting", Meeting(AT_ONCE))
    transport = InProcessTransport()
    engine = Engine(
        Parts(
            flow="flow",
            define=definer(define),
            state=MemoryStateStore(),
            data=MeetingStore(MemoryDataStore()),
            transport=transport,
            clock=FakeClock(),
            inline_limit=0,
            loads_at_once=AT_ONCE,
            lease_after=float("inf"),
        )
    )
    id = engine.start(b"x").request_id
    # The last delivery is that of the join; whoever asks for the result afterwards comes alone.
    while not engine.state(id).has_ended:
        engine.deliver(id, transport.pending.popleft().body)

    assert MeetingStore.meeting.most == AT_ONCE


def test_values_come_in_the_order_in_which_they_were_asked_for() -> None:
    payloads = Payloads(MemoryDataStore().configure("flow", "r"), limit=3, loads_at_once=AT_ONCE)
    stored = {name: payloads.store(name, name.encode()) for name in ("longest", "a", "longer", "longish")}

    assert list(payloads.load_each(stored).items()) == [(name, name.encode()) for name in stored]


def test_of_results_that_are_gone_the_first_is_told_and_no_more_are_asked_for() -> None:
    view = CountingStore(MemoryDataStore())
    payloads = Payloads(view, limit=0, loads_at_once=2)
    stored = {str(number): payloads.store(str(number), b"x") for number in range(100)}
    view.clear()

    with pytest.raises(KeyNotFoundError, match="stored under '0~"):
        payloads.load_each(stored)

    assert view.gets < 50


class CountingStore(DataStoreWrapper):
    """Counts what is asked for."""

    gets = 0

    def _run(self, operation, call, *, is_write):
        self.gets += operation == "get"
        return call()

    def clear(self) -> None:
        self._store.cleanup()
