"""The composition root: a handler and settings become an engine, and an engine becomes a served function."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from faasflow import graph, logs
from faasflow.codec import build_decoders
from faasflow.config import GATEWAY_DISPATCHER, Settings, without_tokens
from faasflow.dsl import Flow
from faasflow.engine.context import Context
from faasflow.engine.guard import UserCodeError, user_code
from faasflow.errors import (
    ConfigError,
    DefinitionError,
    FaasflowError,
    HandlerError,
    StoreUnavailableError,
    TryAgainError,
    variable_hint,
)
from faasflow.events import EventHandler
from faasflow.ports import DataStore, StateStore
from faasflow.runtime.handler import Handler, load_handler
from faasflow.runtime.ticker import Ticker
from faasflow.runtime.timeouts import timeout_warnings
from faasflow.tracing import open_tracing

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from faasflow.engine.beside import Workers
    from faasflow.engine.engine import Engine
    from faasflow.engine.parts import Parts
    from faasflow.http.server import Server
    from faasflow.ports import Clock, Transport

__all__ = ["Handler", "SystemClock", "build_app", "build_engine", "definer", "load_handler", "serve"]

logger = logging.getLogger(__name__)

_LOADS_AT_ONCE = 8
_SAME_WISH = 2.0
_CLOCK_PATIENCE = 10.0  # for what the clock has begun
_LAST_STEPS = 2.0  # to stop the clock and send what is buffered

Own = TypeVar("Own")
AnyStore = TypeVar("AnyStore", StateStore, DataStore)


class SystemClock:
    """The time of the machine."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def definer(define: Callable[[Any, Any], Any]) -> Callable[[Context], graph.Definition]:
    """What runs a handler's `define` for one request. A mistake of its own is a `DefinitionError` too."""

    def defined(context: Context) -> graph.Definition:
        flow = Flow()
        try:
            with user_code():
                returned = define(flow, context)
        except UserCodeError as failed:
            error = failed.error
            if isinstance(error, FaasflowError) and not isinstance(error, StoreUnavailableError | TryAgainError):
                raise error from None
            text = f"define() failed with {type(error).__name__}: {error}"
            raise DefinitionError(text, hint=variable_hint(error)) from error
        _check_done(returned)
        return flow.build()

    return defined


def _check_done(returned: Any) -> None:
    """Refuse a `define` that has done nothing yet."""
    if inspect.isawaitable(returned) or hasattr(returned, "__aiter__"):
        if hasattr(returned, "close"):
            returned.close()
        raise DefinitionError(
            "define() is an async function. It runs at every delivery and must not wait for anything.",
            hint="Write `def define(flow, context)`; the code of its nodes may be async.",
        )
    if inspect.isgenerator(returned):
        raise DefinitionError("define() yields, so that its code does not run.", hint="Remove the yield.")


def build_engine(
    handler: Handler, settings: Settings, *, transport: Transport | None = None, clock: Clock | None = None
) -> Engine:
    """An engine for the flow of a handler, on stores that are ready."""
    from faasflow.engine.engine import Engine

    return Engine(_parts(handler, settings, transport=transport, clock=clock))


def build_app(
    handler: Handler,
    settings: Settings,
    *,
    ticker: Ticker | None = None,
    workers: Workers | None = None,
    events: Sequence[EventHandler] = (),
) -> WSGIApplication:
    """The application of a handler's flow, which is defined once to see whether it can be. Where nothing names the
    flow, the Host header of each request does. `ticker` runs the clock of each flow that is served and `workers` what
    it finds due, `events` are told what happens."""
    from faasflow.engine.engine import Engine
    from faasflow.http import ByHost, create_app

    def app_of(engine: Engine) -> WSGIApplication:
        if ticker is not None and engine.flow:
            ticker.add(engine)
        return create_app(engine, settings=settings)

    on_timer = ticker.wake if ticker is not None else None
    parts = _parts(handler, settings, on_timer=on_timer, workers=workers, events=events)
    engine = Engine(parts)
    engine.checked_definition()
    app = app_of(engine)
    return app if settings.flow else ByHost(app, lambda name: app_of(Engine(replace(parts, flow=name))))


def serve(
    handler: Path,
    *,
    name: str = "",
    port: int | None = None,
    guard: Callable[[WSGIApplication], WSGIApplication] = lambda app: app,
) -> None:
    """Serve the flow of a handler until SIGTERM or SIGINT, answer what is in flight, and return; in the main thread.

    `name` and `port` go before the environment's. `guard` wraps the application, to see every request first. A mistake
    that can be found before the first request is told in one line on standard error, behind the traceback of the
    handler's own exception, and ends the process with 1: in plain text, whatever form the log has.
    """
    try:
        settings = Settings.from_environment(flow=name, port=port)
        with logs.configured(settings.log_level, settings.log_format):
            _serve(handler, settings, guard)
    except FaasflowError as error:
        _refuse(error)


def _serve(handler: Path, settings: Settings, guard: Callable[[WSGIApplication], WSGIApplication]) -> None:
    from faasflow.engine.beside import Pool
    from faasflow.http.app import LONGEST_MESSAGE
    from faasflow.http.server import Server

    build_decoders()
    loaded = load_handler(handler)
    ticker = Ticker(interval=settings.tick_interval, clock=SystemClock())
    events, workers = event_handlers(loaded, settings), Pool()
    app = guard(build_app(loaded, settings, ticker=ticker, workers=workers, events=events))
    # One half works while the other half may wait for results.
    server = Server(
        app,
        host=settings.host,
        port=settings.port,
        threads=2 * settings.threads,
        max_body=settings.max_body,
        max_unsigned_body=LONGEST_MESSAGE if settings.authenticate_request else None,
    )
    logger.info("Flow %r listens on %s:%d.", settings.flow or "(by Host header)", settings.host, server.port)
    for warning in timeout_warnings(settings, definer(loaded.define)(Context(settings.flow, "", ""))):
        logger.warning(warning)
    _drain_on_signals(server, settings)
    ticker.start()
    server.run()
    ticker.stop()
    workers.stop(min(settings.drain_timeout, _CLOCK_PATIENCE))
    for one in events:
        _close(one)


def _parts(
    handler: Handler,
    settings: Settings,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    on_timer: Callable[[float], None] | None = None,
    workers: Workers | None = None,
    events: Sequence[EventHandler] = (),
) -> Parts:
    from faasflow import stores
    from faasflow.engine.beside import Inline
    from faasflow.engine.parts import Parts

    own_state, own_data = handler.override_state_store, handler.override_data_store
    return Parts(
        flow=settings.flow,
        define=definer(handler.define),
        state=_ready("state_store", own_state, lambda: stores.open_state_store(settings.state_store)),
        data=_ready("data_store", own_data, lambda: stores.open_data_store(settings.data_store)),
        transport=transport or _transport(settings),
        clock=clock or SystemClock(),
        key=settings.key,
        callback_allow=settings.callback_allow,
        default_method=settings.default_method,
        call_timeout=settings.call_timeout,
        loads_at_once=_LOADS_AT_ONCE,
        repair_after=settings.repair_after,
        lease=settings.lease,
        retention=settings.retention,
        on_timer=on_timer or (lambda due: None),
        workers=workers or Inline(),
        events=events,
    )


def event_handlers(handler: Handler, settings: Settings) -> list[EventHandler]:
    """Who is told what happens to requests, ready: tracing, if it is on, and the handler's own. `HandlerError` or
    `ConfigError` if one cannot be made."""
    own = _own("event_handler", handler.override_event_handler) if handler.override_event_handler is not None else None
    found = [own] if own is not None else []
    for events in found:
        if not isinstance(events, EventHandler):
            raise HandlerError(
                f"override_event_handler() returned {type(events).__name__}, which is no faasflow.EventHandler."
            )
        try:
            events.init()
        except Exception as error:
            raise HandlerError(f"init() of the event handler failed with {type(error).__name__}: {error}") from error
    tracing = open_tracing(settings)
    return [tracing, *found] if tracing is not None else found


def _transport(settings: Settings) -> Transport:
    from faasflow.transport.openfaas import OpenFaasTransport

    calls = OpenFaasTransport(
        settings.gateway, threads=settings.threads, login=settings.gateway_login, ca_file=settings.gateway_ca_file
    )
    if settings.dispatcher == GATEWAY_DISPATCHER:
        return calls
    from faasflow.transport.jetstream import Address, JetStreamTransport

    return JetStreamTransport(calls, Address.from_url(settings.dispatcher))


def _ready(
    setting: str, override: Callable[[], AnyStore | None] | None, configured: Callable[[], AnyStore]
) -> AnyStore:
    """The handler's own store, else the configured one, made ready."""
    store = _own(setting, override) if override is not None else None
    if store is None:
        try:
            store = configured()
        except ConfigError as error:
            raise ConfigError(without_tokens(f"Setting {setting!r}: {error}"), hint=error.hint) from None
    store.init()
    return store


def _own(setting: str, override: Callable[[], Own | None]) -> Own | None:
    try:
        return override()
    except FaasflowError:
        raise
    except Exception as error:
        raise HandlerError(f"override_{setting}() failed with {type(error).__name__}: {error}") from error


def _refuse(error: FaasflowError) -> NoReturn:
    cause = error.__cause__
    if isinstance(error, HandlerError | DefinitionError) and cause is not None and not isinstance(cause, FaasflowError):
        frames = cause.__traceback__
        while frames is not None and not _is_user_code(frames.tb_frame):
            frames = frames.tb_next
        traceback.print_exception(type(cause), cause, frames)
    print(f"faasflow: error: {error} {error.hint}".replace("\n", " ").rstrip(), file=sys.stderr, flush=True)
    raise SystemExit(1)


def _is_user_code(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return not module.startswith(("faasflow.", "importlib.", "_frozen_importlib"))


def _close(events: EventHandler) -> None:
    try:
        events.close()
    except Exception as error:
        logger.warning("Event handler %s failed at close with %s.", type(events).__name__, type(error).__name__)


def _drain_on_signals(server: Server, settings: Settings) -> None:
    """Drain at the first signal. of-watchdog and the platform both send SIGTERM: a second one that follows soon is the
    same wish. Ctrl-C, and a later SIGTERM, end the process at once."""
    first: list[float] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if first:
            if time.monotonic() - first[0] > _SAME_WISH:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        first.append(time.monotonic())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        grace = settings.grace if number == signal.SIGTERM else 0.0
        _begin_end(server, grace=grace, limit=settings.drain_timeout)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _begin_end(server: Server, *, grace: float, limit: float) -> None:
    """Drain, and end the process in any case when `limit` is over: whatever still waits, for a store that does not
    answer for instance, is delivered again by the queue."""
    from faasflow.http.server import end_soon

    end_soon(server, grace=grace, limit=limit)
    if limit == float("inf"):
        return

    def end() -> None:
        time.sleep(grace + limit + _LAST_STEPS)
        logger.warning("Not all that was in flight ended within drain_timeout (%g s); the queue repeats it.", limit)
        os._exit(1)

    threading.Thread(target=end, name="end", daemon=True).start()
