"""Where a server is and how a store proves itself to it, as a store URL says it; checked in one place."""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from faasflow.errors import ConfigError

LONGEST_SILENCE = 6.0
"""Seconds until a connection to a state store breaks whose server acknowledges nothing: less than its timeout, and more
than a slow one takes."""

LONGEST_IDLE = 2.0
"""Seconds that a connection to a store is kept for the next call. What is written after a longer pause goes through a
new one: the server may have vanished since, and a write that is lost on the way to it has an unknown outcome."""

_TLS_FILES = ("ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form for an encrypted connection: the authority that signed the server's certificate, if it is not
    one that the system trusts, and the certificate and key that this side shows, if it has to."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """What the standard library connects with. `ConfigError` if a file cannot be used."""
        if self.key_file is not None and self.cert_file is None:
            raise ConfigError(f"TLS has the key_file {self.key_file!r} and no cert_file. Give both.")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as exc:
            files = ", ".join(repr(name) for name in (self.ca_file, self.cert_file, self.key_file) if name)
            raise ConfigError(f"TLS cannot be set up with {files}: {exc}. Give files in PEM form.") from exc
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """A server, as a store URL names it. What the URL leaves out is empty."""

    host: str
    port: int
    path: str
    user: str
    password: str = field(repr=False)
    options: Mapping[str, str]
    tls: Tls | None


def parse_address(url: str, *, form: str, port: int, options: Collection[str], path: str = "") -> Address:
    """The address in `url`, which looks like `form`; with an `s` behind the scheme it is for TLS. `port` is what is
    meant if it names none, `options` are those that it may have beside the files of TLS, and `path` is the pattern of
    its path. `ConfigError` with `form` for any other URL."""
    try:
        parts = urlsplit(url)
        given = _options(parts)
        is_tls = parts.scheme == form.lstrip("'").partition(":")[0] + "s"
        allowed = {*options, *_TLS_FILES} if is_tls else set(options)
        is_place = parts.hostname and parts.port != 0 and re.fullmatch(f"/?|/{path}", parts.path, re.ASCII)
        if not is_place or parts.fragment or given.keys() - allowed:
            raise ValueError
        tls = Tls(**{name: given.pop(name) for name in _TLS_FILES if name in given}) if is_tls else None
        return Address(
            host=parts.hostname or "",
            port=parts.port or port,
            path=parts.path.removeprefix("/"),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            options=given,
            tls=tls,
        )
    except ValueError as exc:
        raise ConfigError(f"The store URL {shown(url)!r} cannot be understood. Use {form}.") from exc


def read_secret(address: Address, option: str) -> str:
    """What the file holds that `option` names, without the space around it. Empty if the option is not given."""
    path = address.options.get(option)
    if path is None:
        return ""
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"The {option} {path!r} of a store URL cannot be read: {exc}.") from exc
    if not secret:
        raise ConfigError(f"The {option} {path!r} of a store URL is empty.")
    return secret


def shown(url: str) -> str:
    """`url` without what may be secret in it."""
    return re.sub(r"//[^/?#]*@", "//…@", url)


def _options(parts: SplitResult) -> dict[str, str]:
    given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    if any(len(values) > 1 or not values[0] for values in given.values()):
        raise ValueError
    return {name: values[0] for name, values in given.items()}
