"""The settings of a flow function: read once, from the environment and the secret files, and checked in one place.

Names and meanings are the original's where it has them. Nothing else in the package reads the environment for a flow.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from faasflow.errors import ConfigError
from faasflow.naming import escape

GATEWAY = "http://gateway.openfaas:8080"
CONSUL = "consul.faasflow:8500"
S3 = "minio.faasflow:9000"
GATEWAY_DISPATCHER = "gateway"
SECRETS = "/var/openfaas/secrets"
HMAC_SECRET = "faasflow-hmac-secret"
USER_SECRET, PASSWORD_SECRET = "basic-auth-user", "basic-auth-password"
TOKEN_SECRET = "gateway-token"
DEFAULT_TIMEOUT = 30.0  # of-watchdog's, for read_timeout, write_timeout and exec_timeout
BUCKET = "faasflow"

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_METHOD = re.compile(r"[A-Z]+")
_LONGEST_DURATION = 366 * 86400.0
_SERVER = re.compile(r"(?:(https?)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?/?")
_HOST_PATTERN = re.compile(r"(?:[a-z0-9._*-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_NOT_YET = ("enable_tracing", "trace_server")
_WITHOUT_EFFECT = ("enable_hmac", "verify_request", "intermediate_storage", "chain_name")
_HIDDEN = "****"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a flow function is run with. Times are in seconds; a timeout of 0 is none.

    `flow` is empty if neither the configuration nor the platform names the flow; then the Host header does. `key` signs
    messages between nodes, and callers sign their requests with it; without one messages are not signed. `grace` is how
    long to go on accepting after SIGTERM. `threads` requests are worked on at a time, and as many more may wait for
    results. `gateway_login` is the header `Authorization` for the gateway. `dispatcher` is the URL of the NATS server
    whose JetStream queues messages between nodes, or `gateway` for the gateway's own queue. `callback_allow` holds
    patterns of the hosts that callbacks may go to; none allows any. `is_watched` is whether something in front ends a
    call at `exec_timeout`.
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
    allow_sha1: bool = False
    callback_allow: tuple[str, ...] = ()
    default_method: str = "POST"
    call_timeout: float = 60.0
    exec_timeout: float = DEFAULT_TIMEOUT
    read_timeout: float = 0.0
    write_timeout: float = 0.0
    is_watched: bool = False
    grace: float = 0.0
    host: str = "127.0.0.1"
    port: int = 5000
    threads: int = 32

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


class Source(StrEnum):
    """Where the value of a setting came from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    SECRET = "secret file"


@dataclass(frozen=True, slots=True)
class Reading:
    """A setting as it was read: its value as it may be shown, and what is to be said of it."""

    name: str
    shown: str
    source: Source
    note: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that an environment says of a flow function. `settings` has the default where there is a problem."""

    settings: Settings
    readings: tuple[Reading, ...]
    problems: tuple[ConfigError, ...]


def inspect(environ: Mapping[str, str], *, flow: str = "", port: int | None = None) -> Inspection:
    """What `Settings.from_environment` does, with where each value came from and everything that is wrong."""
    read = _Reader(environ)
    settings = _settings(read, flow, port)
    for name in _NOT_YET:
        read.unused(name, "not used yet")
    for name in _WITHOUT_EFFECT:
        read.unused(name, "not used")
    return Inspection(settings, tuple(read.readings.values()), tuple(read.problems))


def gateway_access(environ: Mapping[str, str]) -> tuple[str, str]:
    """The header `Authorization` for the gateway and the file with its authority, for who is no flow but calls the
    gateway all the same. `ConfigError` for what cannot be understood."""
    read = _Reader(environ)
    access = _login(read), _file(read, "gateway_ca_file")
    if read.problems:
        raise read.problems[0]
    return access


def names_flow(environ: Mapping[str, str]) -> bool:
    """Whether an environment is that of a flow function, and not that of somebody's terminal."""
    return any(environ.get(name) for name in ("fprocess", "workflow_name", "OPENFAAS_NAME", "gateway", "state_store"))


def parse_duration(text: str) -> float | None:
    """Seconds in a duration of Go's notation (`1m30s`, `500ms`) or in bare seconds; `None` if it is neither."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def masked(text: str) -> str:
    """`text` without what may be a password or token in a URL."""
    scheme, separator, rest = text.rpartition("://") if text.count("://") == 1 else ("", "", text)
    if not rest.startswith("/"):  # a file has no login; a password may hold anything
        rest = re.sub(r"^.*@", "…@", rest, flags=re.DOTALL)
    return without_tokens(scheme + separator + rest)


def without_tokens(text: str) -> str:
    """`text` without what may be a password or token in the query of a URL."""
    secrets = r"([?&][^\s=&]*(?:key|token|secret|password)=)[^\s&#'\"]*"
    return re.sub(secrets, rf"\1{_HIDDEN}", text, flags=re.IGNORECASE)


def _settings(read: _Reader, flow: str, port: int | None) -> Settings:
    name = flow or read.text("workflow_name") or read.text("OPENFAAS_NAME")
    authenticates = read.boolean("authenticate_request", False)
    # Who may not start a request must not be able to forge a message of one either.
    signs = read.boolean("validate_request", True) or authenticates
    store = _default_store(read.text("state_dir"), name)
    return Settings(
        flow=name,
        gateway=_gateway(read),
        gateway_login=_login(read),
        gateway_ca_file=_file(read, "gateway_ca_file"),
        dispatcher=_dispatcher(read),
        state_store=_state_store(read, store),
        data_store=_data_store(read, store),
        key=read.secret(HMAC_SECRET, _WAY_OUT) if signs else None,
        authenticate_request=authenticates,
        allow_sha1=read.boolean("allow_sha1", False),
        callback_allow=_host_patterns(read),
        default_method=_method(read),
        call_timeout=read.seconds("call_timeout", 60.0, least=0.001),
        exec_timeout=read.seconds("exec_timeout", DEFAULT_TIMEOUT),
        read_timeout=_connection_timeout(read, "read_timeout"),
        write_timeout=_connection_timeout(read, "write_timeout"),
        is_watched=bool(read.text("exec_timeout") or read.text("fprocess")),
        grace=_grace(read),
        host=read.text("host", "127.0.0.1"),
        port=_port(read) if port is None else port,
        threads=read.integer("threads", 32, least=1, most=1024),
    )


class _Reader:
    """Reads and checks single settings, and remembers what it read. An empty one counts as not given; one that is not
    understood is a problem, and counts as not given then."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.readings: dict[str, Reading] = {}
        self.problems: list[ConfigError] = []

    def text(self, name: str, default: str = "") -> str:
        text = self._environ.get(name, "").strip()
        source = Source.ENVIRONMENT if text else Source.DEFAULT
        self.readings[name] = Reading(name, masked(text or default), source)
        return text or default

    def boolean(self, name: str, default: bool) -> bool:
        text = self.text(name, str(default).lower()).lower()
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        self.refuse(name, self.text(name), "'true' or 'false'")
        return default

    def seconds(self, name: str, default: float, *, least: float = 0.0) -> float:
        text = self.text(name, f"{default:g}s")
        value = parse_duration(text)
        if value is not None and least <= value <= _LONGEST_DURATION:
            return value
        self.refuse(name, text, "a duration like '90s', '1m30s' or '500ms', or a number of seconds")
        return default

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        text = self.text(name, str(default))
        if re.fullmatch(r"\d{1,9}", text, re.ASCII) and least <= int(text) <= most:
            return int(text)
        self.refuse(name, text, f"a whole number from {least} to {most}")
        return default

    def secret(self, name: str, way_out: str) -> bytes | None:
        """What the file of a secret holds, without the space around it; a problem if there is none."""
        file = self.secret_file(name)
        try:
            key = file.read_bytes().strip()
        except OSError as exc:
            self.problem(f"Secret {name!r} cannot be read at {str(file)!r}: {exc.strerror}. {way_out}")
            return None
        if not key:
            self.problem(f"Secret {name!r} at {str(file)!r} is empty. {way_out}")
            return None
        self.readings[name] = Reading(name, _HIDDEN, Source.SECRET)
        return key

    def secret_file(self, name: str) -> Path:
        return Path(self.text("secret_mount_path", SECRETS)) / name

    def derived(self, name: str, value: str, origin: str) -> str:
        """Remember a setting that another one stands for."""
        self.readings[name] = Reading(name, masked(value), Source.ENVIRONMENT, f"from {origin}")
        return value

    def unused(self, name: str, note: str) -> None:
        """Remember a setting that is given, although nothing looks at it."""
        if text := self._environ.get(name, "").strip():
            self.readings[name] = Reading(name, masked(text), Source.ENVIRONMENT, note)

    def refuse(self, name: str, value: str, accepted: str) -> None:
        self.problem(f"Setting {name!r} is {masked(value)!r}, which is not understood. Give {accepted}.")

    def problem(self, text: str) -> None:
        if text not in (str(problem) for problem in self.problems):  # a setting may be read in several places
            self.problems.append(ConfigError(text))


def _dispatcher(read: _Reader) -> str:
    text = read.text("dispatcher", GATEWAY_DISPATCHER)
    if text == GATEWAY_DISPATCHER or text.startswith(("nats://", "tls://")):
        return text
    read.refuse("dispatcher", text, "'gateway', or a URL such as 'nats://nats:4222'")
    return GATEWAY_DISPATCHER


def _gateway(read: _Reader) -> str:
    text = read.text("gateway", GATEWAY)
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or parts.query or parts.fragment or parts.username is not None or re.search(r"[\s\\]", url):
        read.refuse("gateway", text, "host:port, or an http or https URL without a login or query")
        return GATEWAY
    return url.rstrip("/")


def _login(read: _Reader) -> str:
    kind = read.text("gateway_auth", "none").lower()
    if kind in _BOOLEANS:
        kind = "basic" if _BOOLEANS[kind] else "none"
    if kind == "basic":
        user, password = read.secret(USER_SECRET, _LOGIN), read.secret(PASSWORD_SECRET, _LOGIN)
        return "Basic " + base64.b64encode(b":".join([user, password])).decode() if user and password else ""
    if kind == "bearer":
        token = (read.secret(TOKEN_SECRET, _LOGIN) or b"").decode("latin-1")
        if token and not _TOKEN.fullmatch(token):
            read.problem(f"Secret {TOKEN_SECRET!r} is no token: it holds more than printable ASCII. {_LOGIN}")
            return ""
        return f"Bearer {token}" if token else ""
    if kind != "none":
        read.refuse("gateway_auth", kind, "'basic', 'bearer' or 'none'")
    return ""


def _file(read: _Reader, name: str) -> str:
    path = read.text(name)
    if path and not Path(path).is_file():
        read.refuse(name, path, "the path of a file that exists")
    return path


def _state_store(read: _Reader, default: str) -> str:
    """`state_store`, else what the original's names say, else a file."""
    if given := read.text("state_store"):
        read.unused("consul_url", "not used: state_store is set")
        return given
    url = read.text("consul_url", CONSUL if _is_in_cluster(read) else "")
    if not url:
        read.text("state_store", default)
        return default
    server = _server(read, "consul_url", url)
    dc = read.text("consul_dc", "dc1")
    return read.derived("state_store", f"consul{server}?{urlencode({'dc': dc})}", "consul_url")


def _data_store(read: _Reader, default: str) -> str:
    """`data_store`, else what the original's names say, else a file."""
    if given := read.text("data_store"):
        read.unused("s3_url", "not used: data_store is set")
        return given
    url = read.text("s3_url", S3 if _is_in_cluster(read) else "")
    if not url:
        read.text("data_store", default)
        return default
    server = _server(read, "s3_url", url, is_tls=read.boolean("s3_tls", False))
    options = {"region": read.text("s3_region", "us-east-1")}
    for option, name in (("access_key", "s3-access-key"), ("secret_key", "s3-secret-key")):
        secret = read.text(f"s3_{option}_name", name)
        read.secret(secret, _S3_LOGIN)
        options[f"{option}_file"] = str(read.secret_file(secret))
    return read.derived("data_store", f"s3{server}/{BUCKET}?{urlencode(options, safe='/')}", "s3_url")


def _is_in_cluster(read: _Reader) -> bool:
    """Whether this is a pod of Kubernetes, whose files are its own and go with it, and nobody asked for a file."""
    return bool(read.text("KUBERNETES_SERVICE_HOST")) and not read.text("state_dir")


def _server(read: _Reader, name: str, text: str, *, is_tls: bool = False) -> str:
    """The rest of a store URL behind the name of its kind: an `s` for TLS, and the server."""
    found = _SERVER.fullmatch(text)
    if found is None:
        read.refuse(name, text, "host:port, as the original has it, or set the URL of the store instead")
        return "://127.0.0.1"
    port = f":{found[3]}" if found[3] else ""
    return f"{'s' if is_tls or found[1] == 'https' else ''}://{found[2]}{port}"


def _host_patterns(read: _Reader) -> tuple[str, ...]:
    patterns = tuple(re.split(r"[,\s]+", read.text("callback_allow").lower().strip(", ")))
    if patterns == ("",):
        return ()
    for pattern in patterns:
        if not _HOST_PATTERN.fullmatch(pattern):
            read.refuse("callback_allow", pattern, "hosts such as 'hooks.example.com', '*.example.com' or 'host:8080'")
    return patterns


def _method(read: _Reader) -> str:
    text = (read.text("default_method") or read.text("default-method", "POST")).upper()
    if not _METHOD.fullmatch(text):
        read.refuse("default-method", text, "an HTTP method such as 'POST'")
    return text


def _connection_timeout(read: _Reader, name: str) -> float:
    """What of-watchdog cuts a connection after. Without it nothing does."""
    return read.seconds(name, DEFAULT_TIMEOUT if read.text("fprocess") else 0.0)


def _grace(read: _Reader) -> float:
    """of-watchdog keeps serving for `healthcheck_interval`, else `write_timeout`, after it passed SIGTERM on to us; it
    is there if `fprocess` is set. Without it there is nothing to wait for."""
    write_timeout = _connection_timeout(read, "write_timeout")
    return read.seconds("healthcheck_interval", write_timeout if read.text("fprocess") else 0.0)


def _port(read: _Reader) -> int:
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


def _default_store(folder: str, flow: str) -> str:
    home = Path(folder or Path(tempfile.gettempdir()) / "faasflow")
    return "sqlite://" + quote(str(home.absolute() / f"{escape(flow or 'flow')}.db"))


_WAY_OUT = (
    f"Create it (openssl rand -hex 32 | faas-cli secret create {HMAC_SECRET}) and list it under the secrets of the "
    "function, or set validate_request=false, which leaves messages between nodes unsigned."
)
_LOGIN = (
    f"For gateway_auth=basic these are {USER_SECRET} and {PASSWORD_SECRET}, for gateway_auth=bearer {TOKEN_SECRET}. "
    "Create them, and list them under the secrets of the function."
)
_S3_LOGIN = "Create it with faas-cli secret create, and list it under the secrets of the function."
