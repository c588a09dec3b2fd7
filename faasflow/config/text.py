"""How single values are written and shown: durations, times, and URLs without what is secret in them."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urljoin, urlsplit

DAY = 86400.0
HIDDEN = "****"

_LONGEST_ADDRESS = 300

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d+)?)([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
_DAYS = re.compile(r"(\d+(?:\.\d+)?)d(.*)", re.ASCII)


def is_plain_url(url: str) -> bool:
    """Whether this is an http or https URL without a login, a query, or anything that programs read differently."""
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_fine and not (parts.query or parts.fragment or parts.username is not None or re.search(r"[\s\\]", url))


def parse_duration(text: str) -> float | None:
    """Seconds in a duration of Go's notation (`1m30s`, `500ms`) or in bare seconds; `None` if it is neither."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_age(text: str) -> float | None:
    """Seconds in a duration that may begin with days (`7d`, `1d12h`); `None` if it is none."""
    days = _DAYS.fullmatch(text.strip())
    if days is None:
        return parse_duration(text)
    rest = parse_duration(days[2]) if days[2] else 0.0
    return None if rest is None else float(days[1]) * DAY + rest


def parse_time(text: str) -> float | None:
    """A time as seconds since the epoch, from just that or from RFC 3339; `None` if it is neither. In a query the `+`
    of a time zone may have become a space."""
    text = text.strip()
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    try:
        return datetime.fromisoformat(f"{parts[1]}T{parts[2]}{parts[3].replace(' ', '+').upper()}").timestamp()
    except ValueError:  # such as a month 13
        return None


def masked(text: str) -> str:
    """`text` without what may be a password or token in a URL."""
    scheme, separator, rest = text.rpartition("://") if text.count("://") == 1 else ("", "", text)
    if not rest.startswith("/"):  # a file has no login; a password may hold anything
        rest = re.sub(r"^.*@", "…@", rest, flags=re.DOTALL)
    return without_tokens(scheme + separator + rest)


def redirection(url: str, location: str, *, secret_path: bool = False) -> str:
    """Where an answer of `url` with the header `Location` points to, as a text behind its status; empty without one.
    What may be secret is left out: login, query and, with `secret_path`, what the path has in common with `url`'s."""
    try:
        target = urlsplit(urljoin(url, location))
        host = masked(f"{target.scheme}://{target.netloc}")
    except ValueError:
        return ""
    if not location or target.scheme not in ("http", "https"):
        return ""
    known = {*urlsplit(url).path.split("/")} - {""} if secret_path else set()
    path = "/".join("…" if part in known else part for part in target.path.split("/"))
    return f" and points to {(host + path)[:_LONGEST_ADDRESS]!r}"


def without_tokens(text: str) -> str:
    """`text` without what may be a password or token in the query of a URL."""
    secrets = r"([?&][^\s=&]*(?:key|token|secret|password)=)[^\s&#'\"]*"
    return re.sub(secrets, rf"\1{HIDDEN}", text, flags=re.IGNORECASE)
