"""Functions of a stack that no process here serves: where calls of them go instead."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from faasflow.errors import ConfigError
from faasflow.local.client import Headers
from faasflow.local.routing import Absent, Function, Upstreams
from faasflow.local.stack import DEFAULT_NAMESPACE, FunctionSpec, is_url


@dataclass(frozen=True, slots=True)
class RemoteGateway:
    """A gateway that is called for what is not hosted here. `url` has no login, `headers` have."""

    url: str
    headers: Headers = field(default=(), repr=False)

    def function(self, spec: FunctionSpec) -> Function:
        """A function of a stack, called there."""
        name = spec.name if spec.namespace == DEFAULT_NAMESPACE else f"{spec.name}.{spec.namespace}"
        return Upstreams(spec, [f"{self.url}/function/{quote(name, safe='')}"], headers=self.headers, patience=0)

    def unknown(self, name: str) -> Function:
        """A function that the stack does not have."""
        return self.function(FunctionSpec(name=name, lang="", handler=Path()))


def remote_gateway(url: str) -> RemoteGateway:
    """The gateway of a URL; a login in it is sent as HTTP basic authentication. `ConfigError` if it is no URL."""
    full = url.strip() if "://" in url else f"http://{url.strip()}"
    if not is_url(full):
        raise ConfigError("The remote gateway is no URL.", hint="Write it like https://gateway.example.com.")
    plain, headers = without_login(full)
    return RemoteGateway(plain.rstrip("/"), headers)


def without_login(url: str) -> tuple[str, Headers]:
    """A URL without the user and password in it, and the header that stands for them."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ()
    user, _, password = login.partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), [("Authorization", f"Basic {token}")]


def serve_elsewhere(spec: FunctionSpec, remote: RemoteGateway | None) -> Function:
    """What a call of a function goes to that has no process here: its URL, the remote gateway, or an error."""
    if spec.url:
        url, headers = without_login(spec.url)
        return Upstreams(spec, [url], headers=headers, patience=0)
    return Absent(spec) if remote is None or spec.mistake else remote.function(spec)
