"""What is set of the gateway and the queue: where they are, and how to log in."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from faasflow.config.reader import BOOLEANS, Reader
from faasflow.config.text import is_plain_url

GATEWAY = "http://gateway.openfaas:8080"
GATEWAY_DISPATCHER = "gateway"
USER_SECRET, PASSWORD_SECRET = "basic-auth-user", "basic-auth-password"
TOKEN_SECRET = "gateway-token"

_TOKEN = re.compile(r"[\x21-\x7e]+")
_WAY_OUT = (
    f"For gateway_auth=basic these are {USER_SECRET} and {PASSWORD_SECRET}, for gateway_auth=bearer {TOKEN_SECRET}. "
    "Create them, and list them under the secrets of the function."
)


def gateway_access(environ: Mapping[str, str]) -> tuple[str, str]:
    """The header `Authorization` for the gateway and the file with its authority, for who is no flow but calls the
    gateway all the same. `ConfigError` for what cannot be understood."""
    read = Reader(environ)
    access = gateway_login(read), existing_file(read, "gateway_ca_file")
    if read.problems:
        raise read.problems[0]
    return access


def dispatcher_url(read: Reader) -> str:
    """The URL of the server that queues messages between nodes, or `gateway`."""
    text = read.text("dispatcher", GATEWAY_DISPATCHER)
    if text == GATEWAY_DISPATCHER or text.startswith(("nats://", "tls://")):
        return text
    read.refuse("dispatcher", text, "'gateway', or a URL such as 'nats://nats:4222'")
    return GATEWAY_DISPATCHER


def gateway_url(read: Reader) -> str:
    """The URL of the gateway, which may be set as host and port."""
    text = read.text("gateway", GATEWAY)
    url = text if "://" in text else f"http://{text}"
    if not is_plain_url(url):
        read.refuse("gateway", text, "host:port, or an http or https URL without a login or query")
        return GATEWAY
    return url.rstrip("/")


def gateway_login(read: Reader) -> str:
    """The header `Authorization` for the gateway, empty for none."""
    kind = read.text("gateway_auth", "none").lower()
    if kind in BOOLEANS:
        kind = "basic" if BOOLEANS[kind] else "none"
    if kind == "basic":
        user, password = read.secret(USER_SECRET, _WAY_OUT), read.secret(PASSWORD_SECRET, _WAY_OUT)
        return "Basic " + base64.b64encode(b":".join([user, password])).decode() if user and password else ""
    if kind == "bearer":
        token = (read.secret(TOKEN_SECRET, _WAY_OUT) or b"").decode("latin-1")
        if token and not _TOKEN.fullmatch(token):
            read.problem(f"Secret {TOKEN_SECRET!r} is no token: it holds more than printable ASCII. {_WAY_OUT}")
            return ""
        return f"Bearer {token}" if token else ""
    if kind != "none":
        read.refuse("gateway_auth", kind, "'basic', 'bearer' or 'none'")
    return ""


def existing_file(read: Reader, name: str) -> str:
    """The path of a file that is there, empty if none is set."""
    path = read.text(name)
    if path and not Path(path).is_file():
        read.refuse(name, path, "the path of a file that exists")
    return path
