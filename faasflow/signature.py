"""How a caller signs a whole request, so that its signature serves for nothing else and not for long.

`X-Faas-Flow-Signature: t=<unix seconds>,v1=<hex>`. The hex is the HMAC-SHA256 of five lines, which are `t`, the flow,
the method, the path and the query, each with a newline behind it, and of the body behind them. The key is made from the
flow's secret for this purpose only. As proxies may encode a path anew, it is signed in the form that `_normal` gives.
"""

from __future__ import annotations

import hmac
import re
from urllib.parse import quote, unquote_to_bytes

HEADER = "X-Faas-Flow-Signature"
TOLERANCE = 300  # seconds that clocks may differ and a request may be under way

_PURPOSE = b"faasflow request"
_FORM = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-fA-F]{64})")


class Signature:
    """The signature of a request made at `time` (seconds since the epoch) to `path` and `query` of a flow, without the
    part of the path that names the flow. `update` takes the body, in as many pieces as it comes."""

    def __init__(self, key: bytes, *, flow: str, method: str, path: str, query: str, time: int) -> None:
        self._time = time
        lines = [str(time), flow.partition(".")[0], method.upper(), _normal(path), query]
        head = b"".join(line.encode("utf-8", "surrogateescape") + b"\n" for line in lines)
        own_key = hmac.new(key, _PURPOSE, "sha256").hexdigest().encode()
        self._hmac = hmac.new(own_key, head, "sha256")

    def update(self, body: bytes) -> None:
        self._hmac.update(body)

    @property
    def digest(self) -> str:
        return self._hmac.hexdigest()

    def __str__(self) -> str:
        """What stands in the header."""
        return f"t={self._time},v1={self.digest}"


def parse(header: str) -> tuple[int, str] | None:
    """Time and digest of a header; `None` if it has another form."""
    found = _FORM.fullmatch(header.strip())
    return None if found is None else (int(found[1]), found[2].lower())


def _normal(path: str) -> str:
    """A path with exactly those bytes escaped that must be."""
    return quote(unquote_to_bytes(path), safe="/")
