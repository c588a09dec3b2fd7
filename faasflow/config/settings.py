"""The settings of a flow function, and how each is read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from faasflow.config.gateway import (
    GATEWAY,
    GATEWAY_DISPATCHER,
    dispatcher_url,
    existing_file,
    gateway_login,
    gateway_url,
)
from faasflow.config.logs import LogFormat, LogLevel, log_format, log_level
from faasflow.config.reader import BOOLEANS, Reader, Reading
from faasflow.config.stores import data_store, default_store, state_store
from faasflow.config.text import DAY
from faasflow.config.tracing import TraceSettings, trace_settings
from faasflow.errors import ConfigError

HMAC_SECRET = "faasflow-hmac-secret"
DEFAULT_TIMEOUT = 30.0  # of-watchdog's, for read_timeout, write_timeout and exec_timeout

_STRICT = "strict"
_METHOD = re.compile(r"[A-Z]+")
_HOST_PATTERN = re.compile(r"(?:[a-z0-9._*-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_WITHOUT_EFFECT = ("enable_hmac", "verify_request", "intermediate_storage", "chain_name")
_WAY_OUT = (
    f"Create it (openssl rand -hex 32 | faas-cli secret create {HMAC_SECRET}) and list it under the secrets of the "
    "function, or set validate_request=false, which leaves messages between nodes unsigned."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a flow function is run with. Times are in seconds; a timeout of 0 is none.

    `flow` is empty if neither the configuration nor the platform names the flow; then the Host header does. `key` signs
    messages between nodes, and callers sign their requests with it; without one messages are not signed. Starts may be
    signed by their body alone unless `signs_starts_whole`. `grace` is how
    long to go on accepting after SIGTERM, `drain_timeout` how long to wait then for what is in flight. `threads`
    requests are worked on at a time, and as many more may wait for results. `max_body` is the most bytes that a request
    may have. `gateway_login` is the header `Authorization` for the gateway. `dispatcher` is the URL of the NATS server
    whose JetStream queues messages between nodes, or `gateway` for the gateway's own queue. `callback_allow` holds
    patterns of the hosts that callbacks may go to; none allows any. `is_watched` is whether something in front ends a
    call at `exec_timeout`. `tick_interval` is how often the process looks at the clock's timers, 0 for never;
    `repair_after` how long a step may be ready and not begin before it is forwarded again; `lease` how long a step that
    runs is left alone without a sign of life; `retention` how long an ended request is kept. `trace` is how requests
    are traced, if they are.
    """

    state_store: str = field(repr=False)
    data_store: str = field(repr=False)
    flow: str = ""
    gateway: str = GATEWAY
    gateway_login: str = field(default="", repr=False)
    gateway_ca_file: str = ""
    dispatcher: str = field(default=GATEWAY_DISPATCHER, repr=False)
    key: bytes | None = field(default=None, repr=False)
    authenticate_request: bool = False
    signs_starts_whole: bool = False
    allow_sha1: bool = False
    callback_allow: tuple[str, ...] = ()
    default_method: str = "POST"
    call_timeout: float = 60.0
    exec_timeout: float = DEFAULT_TIMEOUT
    read_timeout: float = 0.0
    write_timeout: float = 0.0
    is_watched: bool = False
    grace: float = 0.0
    drain_timeout: float = DEFAULT_TIMEOUT
    host: str = "127.0.0.1"
    port: int = 5000
    threads: int = 32
    max_body: int = 64 * 1024 * 1024
    tick_interval: float = 10.0
    repair_after: float = 30.0
    lease: float = 20.0
    retention: float = 7 * DAY
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.TEXT
    trace: TraceSettings | None = None

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, *, flow: str = "", port: int | None = None
    ) -> Settings:
        """The settings in `environ`, with `flow` and `port` before what stands there. `ConfigError` for the first that
        is missing or cannot be understood."""
        found = inspect(environ, flow=flow, port=port)
        if found.problems:
            raise found.problems[0]
        return found.settings


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that an environment says of a flow function. `settings` has the default where there is a problem."""

    settings: Settings
    readings: tuple[Reading, ...]
    problems: tuple[ConfigError, ...]


def inspect(environ: Mapping[str, str], *, flow: str = "", port: int | None = None) -> Inspection:
    """What `Settings.from_environment` does, with where each value came from and everything that is wrong."""
    read = Reader(environ)
    settings = _settings(read, flow, port)
    for name in _WITHOUT_EFFECT:
        read.unused(name, "not used")
    return Inspection(settings, tuple(read.readings.values()), tuple(read.problems))


def names_flow(environ: Mapping[str, str]) -> bool:
    """Whether an environment is that of a flow function, and not that of somebody's terminal."""
    return any(environ.get(name) for name in ("fprocess", "workflow_name", "OPENFAAS_NAME", "gateway", "state_store"))


def _settings(read: Reader, flow: str, port: int | None) -> Settings:
    name = flow or read.text("workflow_name") or read.text("OPENFAAS_NAME")
    authenticates, is_strict = _authentication(read)
    # Who may not start a request must not be able to forge a message of one either.
    signs = read.boolean("validate_request", True) or authenticates
    exec_timeout = read.seconds("exec_timeout", DEFAULT_TIMEOUT)
    store = default_store(read.text("state_dir"), name)
    return Settings(
        flow=name,
        gateway=gateway_url(read),
        gateway_login=gateway_login(read),
        gateway_ca_file=existing_file(read, "gateway_ca_file"),
        dispatcher=dispatcher_url(read),
        state_store=state_store(read, store),
        data_store=data_store(read, store),
        key=read.secret(HMAC_SECRET, _WAY_OUT) if signs else None,
        authenticate_request=authenticates,
        signs_starts_whole=is_strict,
        allow_sha1=read.boolean("allow_sha1", False),
        callback_allow=_host_patterns(read),
        default_method=_method(read),
        call_timeout=read.seconds("call_timeout", 60.0, least=0.001),
        exec_timeout=exec_timeout,
        read_timeout=_connection_timeout(read, "read_timeout"),
        write_timeout=_connection_timeout(read, "write_timeout"),
        is_watched=bool(read.text("exec_timeout") or read.text("fprocess")),
        grace=_grace(read),
        drain_timeout=read.seconds("drain_timeout", exec_timeout) or float("inf"),
        host=read.text("host", "127.0.0.1"),
        port=_port(read) if port is None else port,
        threads=read.integer("threads", 32, least=1, most=1024),
        max_body=read.integer("max_body", 64 * 1024 * 1024, least=1024, most=999_999_999),
        tick_interval=read.seconds("tick_interval", 10.0),
        repair_after=read.seconds("repair_after", 30.0, least=1.0),
        lease=read.seconds("lease", 20.0, least=5.0),
        retention=read.age("retention", "7d", least=1.0),
        log_level=log_level(read),
        log_format=log_format(read),
        trace=trace_settings(read),
    )


def _authentication(read: Reader) -> tuple[bool, bool]:
    """Whether callers must sign, and whether as a whole at a start too."""
    text = read.text("authenticate_request", "false").lower()
    if text in (*BOOLEANS, _STRICT):
        return BOOLEANS.get(text, True), text == _STRICT
    read.refuse("authenticate_request", read.text("authenticate_request"), f"'true', '{_STRICT}' or 'false'")
    return False, False


def _host_patterns(read: Reader) -> tuple[str, ...]:
    patterns = tuple(re.split(r"[,\s]+", read.text("callback_allow").lower().strip(", ")))
    if patterns == ("",):
        return ()
    for pattern in patterns:
        if not _HOST_PATTERN.fullmatch(pattern):
            read.refuse("callback_allow", pattern, "hosts such as 'hooks.example.com', '*.example.com' or 'host:8080'")
    return patterns


def _method(read: Reader) -> str:
    text = (read.text("default_method") or read.text("default-method", "POST")).upper()
    if not _METHOD.fullmatch(text):
        read.refuse("default-method", text, "an HTTP method such as 'POST'")
    return text


def _connection_timeout(read: Reader, name: str) -> float:
    """What of-watchdog cuts a connection after. Without it nothing does."""
    return read.seconds(name, DEFAULT_TIMEOUT if read.text("fprocess") else 0.0)


def _grace(read: Reader) -> float:
    """of-watchdog keeps serving for `healthcheck_interval`, else `write_timeout`, after it passed SIGTERM on to us; it
    is there if `fprocess` is set. Without it there is nothing to wait for."""
    write_timeout = _connection_timeout(read, "write_timeout")
    return read.seconds("healthcheck_interval", write_timeout if read.text("fprocess") else 0.0)


def _port(read: Reader) -> int:
    """`port` may be meant for of-watchdog, whose `upstream_url` then says where it expects us."""
    upstream = read.text("upstream_url")
    port = read.integer("port", 5000, least=0, most=65535)
    if not upstream:
        return port
    try:
        return urlsplit(upstream).port or 80
    except ValueError:
        read.refuse("upstream_url", upstream, "a URL such as 'http://127.0.0.1:5000'")
        return port
