"""The settings of a flow function: read once, from the environment and the secret files, and checked in one place.

Names and meanings are the original's where it has them. Nothing else in the package reads the environment.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from faasflow.errors import ConfigError
from faasflow.naming import escape

GATEWAY = "http://gateway.openfaas:8080"
SECRETS = "/var/openfaas/secrets"
HMAC_SECRET = "faasflow-hmac-secret"
DEFAULT_TIMEOUT = 30.0  # of-watchdog's, for read_timeout, write_timeout and exec_timeout

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_METHOD = re.compile(r"[A-Z]+")
_LONGEST_DURATION = 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a flow function is run with. Times are in seconds; `exec_timeout` of 0 is none.

    `flow` is empty if neither the configuration nor the platform names the flow; then the Host header does. `key` signs
    messages between nodes, and callers sign their requests with it; without one messages are not signed. `grace` is how
    long to go on accepting after SIGTERM. `threads` requests are worked on at a time, and as many more may wait for
    results.
    """

    state_store: str = field(repr=False)
    data_store: str = field(repr=False)
    flow: str = ""
    gateway: str = GATEWAY
    key: bytes | None = field(default=None, repr=False)
    authenticate_request: bool = False
    allow_sha1: bool = False
    default_method: str = "POST"
    call_timeout: float = 60.0
    exec_timeout: float = DEFAULT_TIMEOUT
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
        read = _Reader(environ)
        name = flow or read.text("workflow_name") or read.text("OPENFAAS_NAME")
        authenticates = read.boolean("authenticate_request", False)
        # Who may not start a request must not be able to forge a message of one either.
        signs = read.boolean("validate_request", True) or authenticates
        store = _default_store(read.text("state_dir"), name)
        read.seconds("read_timeout", DEFAULT_TIMEOUT)  # of-watchdog acts on it; a typo is told here as well
        return cls(
            flow=name,
            gateway=_gateway(read.text("gateway")),
            state_store=read.text("state_store") or store,
            data_store=read.text("data_store") or store,
            key=_key(read.text("secret_mount_path")) if signs else None,
            authenticate_request=authenticates,
            allow_sha1=read.boolean("allow_sha1", False),
            default_method=_method(read.text("default-method") or read.text("default_method")),
            call_timeout=read.seconds("call_timeout", 60.0, least=0.001),
            exec_timeout=read.seconds("exec_timeout", DEFAULT_TIMEOUT),
            grace=_grace(read),
            host=read.text("host") or "127.0.0.1",
            port=_port(read) if port is None else port,
            threads=read.integer("threads", 32, least=1, most=1024),
        )


def parse_duration(text: str) -> float | None:
    """Seconds in a duration of Go's notation (`1m30s`, `500ms`) or in bare seconds; `None` if it is neither."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


class _Reader:
    """Reads and checks single settings. An empty one counts as not given."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def boolean(self, name: str, default: bool) -> bool:
        text = self.text(name)
        if not text:
            return default
        if text.lower() not in _BOOLEANS:
            raise _refused(name, text, "'true' or 'false'")
        return _BOOLEANS[text.lower()]

    def seconds(self, name: str, default: float, *, least: float = 0.0) -> float:
        text = self.text(name)
        if not text:
            return default
        value = parse_duration(text)
        if value is None or not least <= value <= _LONGEST_DURATION:
            raise _refused(name, text, "a duration like '90s', '1m30s' or '500ms', or a number of seconds")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise _refused(name, text, f"a whole number from {least} to {most}")
        return int(text)


def _refused(name: str, value: str, accepted: str) -> ConfigError:
    return ConfigError(f"Setting {name!r} is {value!r}, which is not understood. Give {accepted}.")


def _gateway(text: str) -> str:
    if not text:
        return GATEWAY
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or parts.query or parts.fragment or parts.username is not None or re.search(r"[\s\\]", url):
        raise _refused("gateway", _without_login(text), "host:port, or an http or https URL without a login or query")
    return url.rstrip("/")


def _without_login(text: str) -> str:
    """`text` without what may be a password in it."""
    return re.sub(r"(^|//)[^/]*@", r"\1…@", text)


def _method(text: str) -> str:
    if text and not _METHOD.fullmatch(text.upper()):
        raise _refused("default-method", text, "an HTTP method such as 'POST'")
    return text.upper() or "POST"


def _grace(read: _Reader) -> float:
    """of-watchdog keeps serving for `healthcheck_interval`, else `write_timeout`, after it passed SIGTERM on to us; it
    is there if `fprocess` is set. Without it there is nothing to wait for."""
    write_timeout = read.seconds("write_timeout", DEFAULT_TIMEOUT)
    return read.seconds("healthcheck_interval", write_timeout if read.text("fprocess") else 0.0)


def _port(read: _Reader) -> int:
    """`port` may be meant for of-watchdog, whose `upstream_url` then says where it expects us."""
    upstream = read.text("upstream_url")
    port = read.integer("port", 5000, least=0, most=65535)
    if not upstream:
        return port
    try:
        return urlsplit(upstream).port or 80
    except ValueError as exc:
        raise _refused("upstream_url", upstream, "a URL such as 'http://127.0.0.1:5000'") from exc


def _default_store(folder: str, flow: str) -> str:
    home = Path(folder or Path(tempfile.gettempdir()) / "faasflow")
    return "sqlite://" + quote(str(home.absolute() / f"{escape(flow or 'flow')}.db"))


def _key(folder: str) -> bytes:
    file = Path(folder or SECRETS) / HMAC_SECRET
    try:
        key = file.read_bytes().strip()
    except OSError as exc:
        raise ConfigError(
            f"Secret {HMAC_SECRET!r} cannot be read at {str(file)!r}: {exc.strerror}. {_WAY_OUT}"
        ) from exc
    if not key:
        raise ConfigError(f"Secret {HMAC_SECRET!r} at {str(file)!r} is empty. {_WAY_OUT}")
    return key


_WAY_OUT = (
    f"Create it (openssl rand -hex 32 | faas-cli secret create {HMAC_SECRET}) and list it under the secrets of the "
    "function, or set validate_request=false, which leaves messages between nodes unsigned."
)
