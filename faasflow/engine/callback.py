"""Where the end of a request may be told, and how who is told knows that it is true.

A callback is signed as a whole: its event, its request, its state and its body, so that nothing of it can be put
together with parts of another one. The key is made from the flow's own for this purpose only: who gets it to check
callbacks cannot start or steer requests with it, and what a flow was made to sign is no use against another one.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from faasflow.errors import BadRequestError

CALLBACK_HEADER = "X-Faas-Flow-Callback-Url"
REQUEST_ID_HEADER = "X-Faas-Flow-Reqid"
STATE_HEADER = "X-Faas-Flow-State"
EVENT_HEADER = "X-Faas-Flow-Event-Id"
SIGNATURE_HEADER = "X-Hub-Signature"

_PURPOSE = b"faasflow callback"
_PORTS = {"http": 80, "https": 443}
# What different libraries read differently: the host that is checked must be the one that is called.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
# How servers join a header that was sent twice.
_SEVERAL = re.compile(r",\s+https?://|^\s*https?://[^/?#\s]*,")
_PLAIN_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")


def check_target(url: str, allow: Sequence[str]) -> None:
    """`BadRequestError` unless `url` may be told of the end of a request: it is an http or https URL and, if `allow`
    has patterns, one of them matches its host. A `*` in a pattern stands for any text; a pattern with a port stands
    for that one only. The URL itself is not told, as it may hold a secret."""
    parts = _split(url)
    if _SEVERAL.search(url):
        raise BadRequestError(f"{CALLBACK_HEADER} names more than one URL.", hint="Send the header once, with one URL.")
    if parts is None:
        raise BadRequestError(f"{CALLBACK_HEADER} is not an http or https URL.")
    host = (parts.hostname or "").removesuffix(".")
    if allow and not (_PLAIN_HOST.fullmatch(host) and any(_matches(pattern, host, parts) for pattern in allow)):
        raise BadRequestError(
            f"{CALLBACK_HEADER} names the host {host!r}, to which this flow sends no callbacks.",
            hint="The setting callback_allow lists the hosts to which it does.",
        )


def callback_key(key: bytes) -> bytes:
    """What callbacks are signed with where `key` is the flow's: hexadecimal text, as programs ask for secrets."""
    return hmac.new(key, _PURPOSE, "sha256").hexdigest().encode()


def sign(key: bytes, headers: Mapping[str, str], body: bytes) -> str:
    """The signature of a callback: the HMAC-SHA256 of its event id, request id and state, as its headers say them, each
    with a newline behind it, and its body."""
    signed = [headers[name].encode() + b"\n" for name in (EVENT_HEADER, REQUEST_ID_HEADER, STATE_HEADER)]
    return "sha256=" + hmac.new(callback_key(key), b"".join(signed) + body, "sha256").hexdigest()


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_fine and not _AMBIGUOUS.search(url) else None


def _matches(pattern: str, host: str, parts: SplitResult) -> bool:
    shown = f"[{host}]" if ":" in host else host
    if re.search(r":\d+$", pattern):
        shown = f"{shown}:{parts.port or _PORTS[parts.scheme]}"
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), shown) is not None
