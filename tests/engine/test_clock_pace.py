"""A tick comes to its end, however soon something is due again."""

from __future__ import annotations

from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport, Response
from faasflow.testing.faults import FlakyStore


def test_a_tick_ends_when_a_request_is_to_be_looked_at_again_in_the_same_millisecond():
    clock, transport = FakeClock(tick=0.0), InProcessTransport()
    transport.answer("http://target/told", lambda call: Response(500, {}, b""))
    state = FlakyStore(MemoryStateStore(), before=lambda operation: operation.number > 200)
    engine = Engine(
        Parts(
            flow="flow",
            define=definer(lambda flow, context: flow.sync_node().modify(lambda data: data)),
            state=state,
            data=MemoryDataStore(),
            transport=transport,
            clock=clock,
            lease_after=float("inf"),
            chance=lambda: 0.5025,  # the next attempt is due in 1.0005 s, and missed 30 s after that
        )
    )
    engine.start(b"x", request_id="r", callback="http://target/told")

    clock.advance(31.0)

    assert engine.tick().fired
