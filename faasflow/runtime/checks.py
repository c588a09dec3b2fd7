"""Whether what a flow function needs is there: its settings, its gateway, its stores, its secret; what `faasflow
doctor` tells, one line each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from faasflow import stores
from faasflow.config import (
    GATEWAY_DISPATCHER,
    HMAC_SECRET,
    Inspection,
    Settings,
    TraceSettings,
    masked,
    without_tokens,
)
from faasflow.errors import ConfigError, FaasflowError
from faasflow.http.clock import SKEW_WAY_OUT, WAY_OUT, ago, clock_fault, clock_skew
from faasflow.naming import IdMaker
from faasflow.ports import DataStore, OutgoingCall, Response, StateStore
from faasflow.runtime import SystemClock
from faasflow.runtime.timeouts import timeout_warnings
from faasflow.stores.base import BaseStateStore
from faasflow.tracing import find_fault

if TYPE_CHECKING:
    from faasflow.engine.clock import ClockStatus
    from faasflow.engine.context import Context
    from faasflow.graph import Definition

FLOW = "faasflow-doctor"
"""The name under which stores are tried; no flow can be called so by mistake."""

_KEY, _VALUE = "round-trip", b"there and back"
_PATIENCE = 5.0
_NAMED = 3
_HEARING = 7.0  # those that tick speak every five seconds
_SHORTEST_KEY = 16
_MEMORY = "memory:"


class Verdict(StrEnum):
    """What came out of a check."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found and, if something is wrong, the way out."""

    name: str
    verdict: Verdict
    found: str
    way_out: str = ""


def run_checks(inspection: Inspection) -> Iterator[Check]:
    """Look at everything, one after the other. Nothing is left behind in the stores."""
    settings = inspection.settings
    for problem in inspection.problems:
        yield Check("settings", Verdict.BAD, str(problem))
    yield from check_gateway(settings)
    if settings.dispatcher != GATEWAY_DISPATCHER:
        yield _check_dispatcher(settings.dispatcher)
    yield _check_store("state store", settings.state_store, lambda: stores.open_state_store(settings.state_store))
    yield _check_store("data store", settings.data_store, lambda: stores.open_data_store(settings.data_store))
    if settings.flow and settings.state_store != _MEMORY:
        yield from _check_clock(settings)
    if settings.trace is not None:
        yield _check_tracing(settings.trace)
    yield from _check_signing(inspection)
    yield from _check_timeouts(settings)


def check_gateway(settings: Settings) -> Iterator[Check]:
    """Whether the gateway answers and, where there is a login for it, takes it."""
    answer = _ask_gateway(settings, "/healthz")
    if isinstance(answer, FaasflowError):
        yield Check("gateway", Verdict.BAD, str(answer), f"{answer.hint} The setting is gateway.")
    elif not answer.is_success:
        found = f"{settings.gateway}/healthz answered {answer.status}."
        yield Check("gateway", Verdict.BAD, found, "Set gateway to the address of an OpenFaaS gateway that is ready.")
    else:
        yield Check("gateway", Verdict.GOOD, f"{settings.gateway} is there")
        if settings.gateway_login:
            yield _check_login(settings)


def _check_login(settings: Settings) -> Check:
    answer = _ask_gateway(settings, "/system/info", Authorization=settings.gateway_login)
    if isinstance(answer, FaasflowError):
        return Check("gateway login", Verdict.BAD, str(answer), answer.hint)
    if answer.status in (401, 403):
        found = f"the gateway refused it with {answer.status}."
        return Check("gateway login", Verdict.BAD, found, "Put the right login into its secrets; see gateway_auth.")
    return Check("gateway login", Verdict.GOOD, "the gateway takes it")


def _ask_gateway(settings: Settings, path: str, **headers: str) -> Response | FaasflowError:
    from faasflow.transport.openfaas import OpenFaasTransport

    transport = OpenFaasTransport(settings.gateway, ca_file=settings.gateway_ca_file)
    try:
        return transport.call(OutgoingCall("GET", settings.gateway + path, headers, [], b"", _PATIENCE))
    except FaasflowError as error:
        return error
    finally:
        transport.close()


def _check_dispatcher(url: str) -> Check:
    from faasflow.transport.jetstream import Address, reach

    try:
        address = Address.from_url(url)
        reach(address)
    except FaasflowError as error:
        return Check("dispatcher", Verdict.BAD, without_tokens(str(error)), error.hint or "The setting is dispatcher.")
    return Check("dispatcher", Verdict.GOOD, f"NATS at {address} has JetStream; a faasflow worker has to empty it")


def _check_store(name: str, url: str, make: Callable[[], StateStore | DataStore]) -> Check:
    shown, setting = masked(url), name.replace(" ", "_")
    began = time.monotonic()
    try:
        with closing(make()) as store:
            is_back = _round_trip(store)
            risks = store.find_risks() if isinstance(store, BaseStateStore) else ()
    except (FaasflowError, ImportError) as error:
        hint = error.hint if isinstance(error, FaasflowError) else ""
        return Check(name, Verdict.BAD, f"{shown}: {without_tokens(str(error))}", hint or f"The setting is {setting}.")
    if not is_back:
        return Check(name, Verdict.BAD, f"{shown} gave back another value than was written.", f"Set another {setting}.")
    if url == _MEMORY:
        return Check(name, Verdict.WARNING, "memory: is gone with the process.", f"Set {setting} to keep requests.")
    if risks:
        return Check(name, Verdict.WARNING, f"{shown}: {' '.join(risks)}")
    milliseconds = (time.monotonic() - began) * 1000
    return Check(name, Verdict.GOOD, f"{shown} keeps what is written ({milliseconds:.0f} ms)")


def _round_trip(store: StateStore | DataStore) -> bool:
    store.init()
    view = store.configure(FLOW, IdMaker()())
    try:
        view.set(_KEY, _VALUE)
        return view.get(_KEY) == _VALUE
    finally:
        view.cleanup()


def _check_clock(settings: Settings) -> Iterator[Check]:
    """Whether somebody runs the clock of the flow, by its ledger. Nothing where that cannot be read: this was told."""
    try:
        found = _look(settings)
    except (FaasflowError, ImportError):
        return
    status, ahead = found.status, found.ahead
    if fault := clock_fault(status):
        yield Check("clock", Verdict.BAD, fault, WAY_OUT)
    elif status.last is None:
        yield Check("clock", Verdict.GOOD, "it had nothing to do yet")
    else:
        yield Check("clock", Verdict.GOOD, f"it runs, last tick {ago(time.time() - ahead - status.last)} ago")
    if skew := clock_skew(ahead):
        yield Check("time", Verdict.WARNING, skew, SKEW_WAY_OUT)
    if found.unreadable:
        yield check_unreadable(settings.flow, found.unreadable)


def check_unreadable(flow: str, names: Sequence[str]) -> Check:
    """What to say of records that cannot be read."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    found = f"this version cannot read {', '.join(names[:_NAMED])}{more}, which is set aside."
    return Check("records", Verdict.WARNING, found, f"See: faasflow unreadable {flow}")


@dataclass(frozen=True, slots=True)
class _Look:
    """The status of the clock, by how many seconds this process's is ahead of those that let it tick, and the names of
    what cannot be read."""

    status: ClockStatus
    ahead: float
    unreadable: Sequence[str]


def _look(settings: Settings) -> _Look:
    from faasflow.engine.engine import Engine
    from faasflow.engine.parts import Parts
    from faasflow.transport.openfaas import OpenFaasTransport

    with ExitStack() as opened:
        state = opened.enter_context(closing(stores.open_state_store(settings.state_store)))
        data = opened.enter_context(closing(stores.open_data_store(_MEMORY)))
        transport = opened.enter_context(closing(OpenFaasTransport(settings.gateway)))
        state.init()
        parts = Parts(
            flow=settings.flow, define=_define, state=state, data=data, transport=transport, clock=SystemClock()
        )
        engine = Engine(parts)
        ahead = engine.compare_clock(patience=_HEARING)
        status = engine.clock_status()
        status = replace(status, is_late=False, overdue=0.0) if ahead > 0 else status
        return _Look(status, ahead, [fault.request_id or fault.key for fault in engine.unreadable()])


def _define(context: Context) -> Definition:
    raise NotImplementedError("A look at the clock runs no flow.")


def _check_tracing(trace: TraceSettings) -> Check:
    try:
        fault = find_fault(trace)
    except ConfigError as error:
        return Check("tracing", Verdict.BAD, str(error), error.hint)
    if fault:
        way_out = "" if trace.warning else "Set trace_server to what takes spans. Without it requests go on untraced."
        return Check("tracing", Verdict.WARNING, f"{fault}.".replace("..", "."), way_out)
    how = "" if trace.is_otlp else "; an agent does not say whether they arrive"
    return Check("tracing", Verdict.GOOD, f"spans go to {trace.server}{how}")


def _check_signing(inspection: Inspection) -> Iterator[Check]:
    key = inspection.settings.key
    if key is not None and len(key) < _SHORTEST_KEY:
        found = f"the secret {HMAC_SECRET} has only {len(key)} bytes."
        yield Check("signing", Verdict.WARNING, found, "Make one that cannot be guessed: openssl rand -hex 32.")
    elif key is not None:
        who = _who_signs(inspection.settings)
        yield Check("signing", Verdict.GOOD, f"messages and callbacks are signed; {who}")
    elif not any(HMAC_SECRET in str(problem) for problem in inspection.problems):
        found = "messages between nodes are not signed: whoever reaches the flow can forge them."
        yield Check("signing", Verdict.WARNING, found, f"Mount the secret {HMAC_SECRET}; leave validate_request on.")


def _who_signs(settings: Settings) -> str:
    if settings.signs_starts_whole:
        return "callers sign whole requests"
    return "callers sign too" if settings.authenticate_request else "callers need not sign"


def _check_timeouts(settings: Settings) -> Iterator[Check]:
    warnings = timeout_warnings(settings)
    for warning in warnings:
        yield Check("timeouts", Verdict.WARNING, warning)
    if not warnings:
        yield Check("timeouts", Verdict.GOOD, "they fit together")
