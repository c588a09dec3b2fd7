"""Putting an engine together from a handler and settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from faasflow import Retry
from faasflow.config import Settings
from faasflow.engine.lifecycle import RequestState
from faasflow.errors import ConfigError, DefinitionError, HandlerError, StoreUnavailableError
from faasflow.ports import Response
from faasflow.runtime import Handler, SystemClock, build_app, build_engine
from faasflow.runtime.ticker import Ticker
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport


def define(flow: Any, context: Any) -> None:
    flow.sync_node().apply("greet").modify(bytes.upper)


def define_chain(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("a").modify(bytes.upper)
    dag.node("b").modify(bytes.upper)
    dag.edge("a", "b")


def settings(**changes: Any) -> Settings:
    return Settings(**{"flow": "flow", "state_store": "memory:", "data_store": "memory:"} | changes)


def test_an_engine_calls_through_its_transport_as_the_settings_say() -> None:
    transport = InProcessTransport()
    transport.answer("greet", lambda call: Response(200, {}, f"{call.method} {call.timeout:g}".encode()))
    own = settings(default_method="PUT", call_timeout=7.0)
    answer = build_engine(Handler(define=define), own, transport=transport).start(b"")

    assert (answer.state, answer.body) == (RequestState.FINISHED, b"PUT 7")


def test_an_engine_signs_its_messages_with_the_key_of_the_settings() -> None:
    transport = InProcessTransport()
    for key in (None, b"key"):
        build_engine(Handler(define=define_chain), settings(key=key), transport=transport).start(b"")
    unsigned, signed = (message.body for message in transport.pending)

    assert b'{"signature":"' + b"0" * 64 in unsigned
    assert b'{"signature":"' + b"0" * 64 not in signed


def test_an_engine_records_in_the_configured_stores(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/flow.db"
    own, transport = settings(state_store=url, data_store=url), InProcessTransport()
    transport.function("greet", lambda body: body)
    first = build_engine(Handler(define=define), own, transport=transport)
    second = build_engine(Handler(define=define), own, transport=transport)
    first.start(b"x" * 100_000, request_id="r1")

    assert second.answer("r1").body == b"X" * 100_000


def test_a_handler_brings_its_own_stores() -> None:
    state, data, transport = MemoryStateStore(), MemoryDataStore(), InProcessTransport()
    transport.function("greet", lambda body: body)
    handler = Handler(define=define, override_state_store=lambda: state, override_data_store=lambda: data)
    build_engine(handler, settings(), transport=transport).start(b"x" * 100_000, request_id="r1")

    assert list(state.list(""))
    assert list(data.list(""))


def test_an_override_that_gives_nothing_means_the_configured_store() -> None:
    handler = Handler(define=define, override_state_store=lambda: None, override_data_store=lambda: None)

    assert build_engine(handler, settings(), transport=InProcessTransport()).requests().rows == []


def test_an_override_that_fails_is_told_by_name() -> None:
    def fail() -> None:
        raise KeyError("token")

    with pytest.raises(HandlerError, match=r"override_data_store\(\) failed with KeyError: 'token'"):
        build_engine(Handler(define=define, override_data_store=fail), settings())


@pytest.mark.parametrize("name", ["state_store", "data_store"])
def test_a_store_url_that_is_not_understood_is_told_by_the_name_of_its_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Setting {name!r}: The store URL 'tape:' cannot be understood"):
        build_engine(Handler(define=define), settings(**{name: "tape:"}))


def test_a_store_that_is_away_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError):
        build_engine(Handler(define=define), settings(state_store=f"sqlite://{tmp_path}/file/flow.db"))


def test_a_flow_with_a_mistake_is_never_served() -> None:
    with pytest.raises(DefinitionError):
        build_app(Handler(define=lambda flow, context: flow.dag().edge("a", "b")), settings())


def test_the_clock_of_the_machine_goes_forward() -> None:
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.01)

    assert 0.01 <= clock.now() - before < 5


def test_an_engine_takes_another_clock() -> None:
    transport, clock = InProcessTransport(), FakeClock(1000.0)
    transport.function("greet", lambda body: body)
    engine = build_engine(Handler(define=define), settings(), transport=transport, clock=clock)
    engine.start(b"", request_id="r1")

    assert engine.story("r1")["created"] == pytest.approx(1000.0, abs=1)


def test_an_engine_is_given_the_times_of_the_settings() -> None:
    transport, clock = InProcessTransport(), FakeClock()
    own = settings(repair_after=100.0, retention=1000.0)
    engine = build_engine(Handler(define=define_chain), own, transport=transport, clock=clock)
    engine.start(b"", request_id="r1")
    transport.pending.clear()
    repaired = []
    for _ in range(4):
        clock.advance(45)
        repaired.append(engine.tick().repaired)
    while transport.pending:
        message = transport.pending.popleft()
        engine.deliver("r1", message.body)
    clock.advance(990)
    engine.tick()
    kept = len(engine.requests().rows)
    clock.advance(600)
    engine.tick()

    assert repaired == [0, 0, 1, 0]
    assert (kept, len(engine.requests().rows)) == (1, 0)


class Recorder(Ticker):
    """A ticker that is told of flows and timers, and does nothing."""

    def __init__(self) -> None:
        super().__init__(interval=0, clock=SystemClock())
        self.flows: list[str] = []
        self.timers: list[float] = []

    def add(self, engine: Any) -> None:
        self.flows.append(engine.flow)

    def wake(self, due: float) -> None:
        self.timers.append(due)


def test_the_clock_of_a_flow_that_is_served_runs() -> None:
    ticker = Recorder()
    build_app(Handler(define=define), settings(), ticker=ticker)

    assert ticker.flows == ["flow"]


def test_the_clock_of_every_flow_that_the_host_header_named_runs() -> None:
    ticker = Recorder()
    client = Client(build_app(Handler(define=define), settings(flow=""), ticker=ticker))
    for host in ("orders", "orders.openfaas-fn", "greet"):
        client.get("/flow", headers={"Host": host})

    assert ticker.flows == ["orders", "greet"]


def test_the_clock_is_woken_for_what_is_to_be_tried_again() -> None:
    def define_failing(flow: Any, context: Any) -> None:
        flow.sync_node(retry=Retry(delay=0.2)).modify(lambda data: 1 / 0)

    ticker = Recorder()
    client = Client(build_app(Handler(define=define_failing), settings(), ticker=ticker))
    before = time.time()
    reply = client.post("/")

    assert reply.status_code == 202
    assert 0.1 <= min(ticker.timers) - before < 5
