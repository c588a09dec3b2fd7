"""How text becomes a header's value."""

from __future__ import annotations

import re
from urllib.parse import quote

_UNSAFE = re.compile(r"[^\x20-\x7e]+|^ +| +$")


def header_text(text: str) -> str:
    """`text` as a header can carry it: what is not printable ASCII, and spaces at its ends, are percent-encoded."""
    return _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), text)
