"""How ids and keys of any text become parts of store keys, paths and headers, and how request ids are made."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Sequence
from urllib.parse import quote, unquote

_LONGEST = 160
_NOT_FOR_HEADERS = re.compile(r"[^\x20-\x7e]+|^ +| +$")
_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def escape(text: str) -> str:
    """One path segment that stands for `text` and nothing else.

    Letters, digits, `-`, `_` and inner dots are kept, the rest is percent-encoded; what would be longer than 160
    characters is cut and ends in `~` and a hash. The empty text is `%`.
    """
    quoted = quote(text, safe="", errors="surrogatepass").replace("~", "%7E")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _LONGEST:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{quoted[:96]}~{digest[:40]}"
    return quoted or "%"


def unescape(segment: str) -> str:
    """The text behind a segment that `escape` did not have to shorten."""
    return "" if segment == "%" else unquote(segment, errors="surrogatepass")


def readable_path(path: str) -> str:
    """The path of a node as people read it. It may be ambiguous, and is for texts only."""
    return unquote(path)


def listed(names: Sequence[str], *, most: int = 10) -> str:
    """Names in a text: at most `most` of them, and how many there are besides."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold `text`: names of files may have halves of surrogate pairs in place of other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def header_text(text: str) -> str:
    """`text` as a header can carry it: what is not printable ASCII, and spaces at its ends, are percent-encoded."""
    return _NOT_FOR_HEADERS.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), text)


def request_prefix(flow: str, request_id: str) -> str:
    """Where all keys of one request live in a store."""
    return f"faasflow/{escape(flow)}/{escape(request_id)}/"


class IdMaker:
    """Makes request ids of 20 characters, `0-9a-v` like those of the original, that sort by the millisecond they were
    made in: 48 bits of time, 28 of the process, 24 of a counter. Thread-safe; unique across processes and forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._process = 0
        self._count = 0

    def __call__(self) -> str:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._process = os.getpid(), secrets.randbits(28)
                self._count = secrets.randbits(23)
            self._count = (self._count + 1) & 0xFFFFFF
            number = time.time_ns() // 1_000_000 << 52 | self._process << 24 | self._count
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(95, -1, -5))
