"""Two who retry a failed request at the same time: one of them goes on with it, the other is told so."""

from __future__ import annotations

import pytest

from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import RequestConflictError
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport, RequestState
from faasflow.testing.faults import FlakyStore, Operation


@pytest.mark.parametrize("meeting", ["keys", "read"])
def test_a_retry_that_is_overtaken_is_a_conflict_wherever_it_is_overtaken(meeting):
    waiting = ["read", meeting]  # the first read is that of the request itself
    told = []

    def meet(operation: Operation) -> bool:
        if waiting and operation.name == waiting[0]:
            waiting.pop(0)
            if not waiting:
                told.append(first.retry("r"))
        return False

    state, transport = MemoryStateStore(), InProcessTransport()

    def engine(store) -> Engine:
        return Engine(
            Parts(
                flow="flow",
                define=definer(lambda flow, context: flow.sync_node().apply("missing")),
                state=store,
                data=MemoryDataStore(),
                transport=transport,
                clock=FakeClock(),
                lease_after=float("inf"),
            )
        )

    first, second = engine(state), engine(FlakyStore(state, before=meet))
    first.start(b"x", request_id="r")

    with pytest.raises(RequestConflictError, match="by somebody else"):
        second.retry("r")

    assert told == [RequestState.RUNNING]
