"""One record that cannot be read, or one look that fails, concerns its own request and no other."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from faasflow.errors import RequestConflictError, RequestNotFoundError, StoreCorruptError, TryAgainError
from faasflow.testing import FlowTester, RequestState

WEEK = 7 * 86400.0
RECORD = "faasflow/flow/bad/request"
BAD_RECORDS = {
    "an unknown state": lambda value: value.replace(b"RUNNING", b"SLEEPING").replace(b"FINISHED", b"SLEEPING"),
    "a newer version": lambda value: value[:-1] + b',"version":99}',
    "cut off": lambda value: value[:-9],
    "no JSON": lambda value: b"\xff\x00",
    "nothing": lambda value: b"",
}


def define(flow, context):
    dag = flow.dag()
    dag.node("a").apply("a")
    dag.node("b").apply("b")
    dag.edge("a", "b")


def made() -> FlowTester:
    tester = FlowTester(define)
    for name in "ab":
        tester.function(name, lambda data: data + b"!")
    return tester


def spoilt(tester: FlowTester, how: str) -> bytes:
    """Start a request and spoil its record; what it was."""
    tester.engine.start(b"x", request_id="bad")
    right = tester.state.get(RECORD)
    tester.state.set(RECORD, BAD_RECORDS[how](right))
    tester.transport.pending.clear()
    return right


@pytest.mark.parametrize("how", BAD_RECORDS)
def test_a_record_that_cannot_be_read_keeps_no_other_request_from_being_repaired(how, caplog) -> None:
    tester = made()
    spoilt(tester, how)
    tester.engine.start(b"x", request_id="good")
    tester.transport.pending.clear()
    tester.clock.advance(40)

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert tester.engine.tick() is not None
            tester.clock.advance(5)
    tester.drain()

    assert tester.outcome("good").state is RequestState.FINISHED
    told = [record.getMessage() for record in caplog.records if "bad" in record.getMessage()]
    assert len(told) == 1
    assert "faasflow/flow/bad/request" in told[0]


@pytest.mark.parametrize("how", BAD_RECORDS)
def test_a_record_that_cannot_be_read_is_a_row_of_the_list(how) -> None:
    tester = made()
    tester.run(b"x", request_id="good")
    spoilt(tester, how)

    rows = tester.engine.requests().rows

    assert [(row["request_id"], row["state"]) for row in rows] == [("bad", "UNREADABLE"), ("good", "FINISHED")]
    assert rows[0]["created"] == pytest.approx(tester.clock.now(), abs=5)
    assert [row["request_id"] for row in tester.engine.requests(states=[RequestState.FINISHED]).rows] == ["good"]
    with pytest.raises(StoreCorruptError, match=RECORD):
        tester.engine.state("bad")


@pytest.mark.parametrize("how", BAD_RECORDS)
def test_a_request_goes_on_by_itself_once_its_record_can_be_read(how) -> None:
    tester = made()
    right = spoilt(tester, how)
    tester.clock.advance(40)
    tester.engine.tick()
    assert [(one.request_id, one.key.split("/")[0]) for one in tester.engine.unreadable()] == [("bad", "$requests")]
    assert not tester.state.keys("faasflow/flow/$timers/")

    tester.state.set(RECORD, right)
    tester.clock.advance(61)
    tester.engine.tick()
    tester.settle()

    assert tester.outcome("bad").state is RequestState.FINISHED
    assert tester.engine.unreadable() == []
    assert not tester.state.keys("faasflow/flow/$unreadable/")


BAD_TIMERS = {
    "00000000000001/r": b"{",
    "00000000000002/r": b'{"due": 1}',
    "00000000000003/r/x.0.1": b'{"request":"r","due":1,"step":["node","a",[["e","foreach","",7,3]]]}',
    "00000000000004/r/x.0.1": b'{"request":"r","due":1,"step":["later","a",[]]}',
    "-1/r": b'{"request":"r","due":1}',
    "soon/r": b'{"request":"r","due":1}',
    "00000000000005": b"\xff",
}


@pytest.mark.parametrize("name", BAD_TIMERS)
def test_a_timer_that_is_none_keeps_no_other_from_firing(name, caplog) -> None:
    tester = made()
    tester.state.set(f"faasflow/flow/$timers/{name}", BAD_TIMERS[name])
    tester.engine.start(b"x", request_id="good")
    tester.transport.pending.clear()
    tester.clock.advance(40)

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            tester.engine.tick()
    assert tester.engine.clock_status().overdue == 0.0
    tester.settle()

    assert tester.outcome("good").state is RequestState.FINISHED
    assert [one.key for one in tester.engine.unreadable()] == [f"$unreadable/$timers/{name}"]
    assert sum(name in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(("key", "value"), [("00000000000001/\xe9", b"\xe9\xff"), ("long ago/r", b"r")])
def test_an_entry_for_retention_that_cannot_be_read_keeps_no_other_request_from_being_removed(key, value) -> None:
    tester = made()
    tester.state.set(f"faasflow/flow/$ended/{key}", value)
    tester.run(b"x", request_id="old")
    tester.clock.advance(WEEK + 1)

    assert tester.engine.tick().removed == 1
    assert tester.state.keys("faasflow/flow/$ended/") in ([], [f"faasflow/flow/$ended/{key}"])


@pytest.mark.parametrize("family", ["$requests", "$failed"])
def test_an_entry_of_a_list_that_names_no_request_is_a_row_by_which_it_can_be_removed(family) -> None:
    tester = made()
    tester.run(b"x", request_id="good")
    key = f"{family}/08299999999999-x"
    tester.state.set(f"faasflow/flow/{key}", b"\xff\xfe")

    listed = tester.engine.requests().rows if family == "$requests" else tester.engine.dead_letters()
    assert (key, "UNREADABLE") in [(row["request_id"], row["state"]) for row in listed]

    tester.engine.remove_unreadable(key)
    assert [row["request_id"] for row in tester.engine.requests().rows] == ["good"]
    assert tester.engine.dead_letters() == []


def test_what_is_stored_of_a_request_that_cannot_be_read_is_removed_by_name_alone() -> None:
    tester = FlowTester(define, inline_limit=0)
    tester.engine.start(b"x", request_id="other")
    spoilt(tester, "an unknown state")
    before = [key for key in tester.state.keys("") if "bad" not in key]
    tester.clock.advance(40)
    tester.engine.tick()

    tester.engine.remove_unreadable("bad")

    assert not [key for key in (*tester.state.keys(""), *tester.data.list("")) if "bad" in key]
    assert "faasflow/flow/other/request" in before
    assert tester.engine.state("other") is RequestState.RUNNING
    with pytest.raises(RequestConflictError, match="can be read"):
        tester.engine.remove_unreadable("other")
    for name in ("none", "$timers/none", "$clock", "other/request", "$unreadable/none"):
        with pytest.raises(RequestNotFoundError):
            tester.engine.remove_unreadable(name)


def test_an_ended_request_that_cannot_be_read_outlives_its_retention_until_it_can() -> None:
    tester = made()
    tester.run(b"x", request_id="bad")
    right = tester.state.get(RECORD)
    tester.state.set(RECORD, BAD_RECORDS["a newer version"](right))
    tester.run(b"x", request_id="good")
    tester.clock.advance(WEEK + 1)

    assert tester.engine.tick().removed == 1
    assert RECORD in tester.state.keys("")

    tester.state.set(RECORD, right)
    tester.clock.advance(61)
    tester.engine.tick()
    assert tester.state.keys("") == ["faasflow/flow/$clock"]


def test_a_request_whose_flow_cannot_be_defined_is_looked_at_later_and_later_and_the_others_are_not() -> None:
    looks = {"bad": 0, "good": 0}
    broken = [True]

    def define_one(flow, context):
        looks[context.query["id"]] += 1
        if context.query["id"] == "bad" and broken[0] and looks["bad"] > 1:
            raise MemoryError("not for this one")
        define(flow, context)

    tester = FlowTester(lambda flow, context: define(flow, context) if not context.query else define_one(flow, context))
    tester.function("a", lambda data: data)
    tester.function("b", lambda data: data)
    for id in looks:
        tester.engine.start(b"x", query=f"id={id}", request_id=id)
    tester.transport.pending.clear()
    for _ in range(120):
        tester.clock.advance(5)
        tester.engine.tick()
        while tester.transport.pending:
            message = tester.transport.pending.popleft()
            with suppress(TryAgainError):
                tester.engine.deliver(message.request_id, message.body)

    assert tester.outcome("good").state is RequestState.FINISHED
    assert 10 <= looks["bad"] <= 25

    broken[0] = False
    tester.settle()
    assert tester.outcome("bad").state is RequestState.FINISHED
