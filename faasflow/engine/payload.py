"""Values on their way between nodes: small ones travel inside records and messages, large ones by reference.

A referenced value is named by its content, so that a second run of a node never changes what the first one recorded.
"""

from __future__ import annotations

import hashlib

import msgspec

from faasflow.errors import StoreCorruptError
from faasflow.ports import DataStore

INLINE_LIMIT = 32 * 1024


class Payload(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value: `text` or `base64` holds it, or `ref` is its key in the data store of the request."""

    text: str | None = None
    base64: bytes | None = None
    ref: str | None = None
    size: int = 0
    sha256: str = ""


EMPTY = Payload()


def inline(value: bytes) -> Payload:
    """A payload that holds `value` itself."""
    if not value:
        return EMPTY
    try:
        return Payload(text=value.decode())
    except UnicodeDecodeError:
        return Payload(base64=value)


class Payloads:
    """The values of one request. `limit` is the largest size, in bytes, that is held inline."""

    def __init__(self, data: DataStore, flow: str, request_id: str, *, limit: int = INLINE_LIMIT) -> None:
        self._data = data
        self._flow = flow
        self._request_id = request_id
        self.limit = limit

    def store(self, name: str, value: bytes) -> Payload:
        """`value` as a payload; a large one is written under a key that begins with `name` first."""
        if len(value) <= self.limit:
            return inline(value)
        digest = hashlib.sha256(value).hexdigest()
        key = f"{name}~{digest[:32]}"
        self._view.set(key, value)
        return Payload(ref=key, size=len(value), sha256=digest)

    def load(self, payload: Payload) -> bytes:
        """The value. `KeyNotFoundError` if it was removed, `StoreCorruptError` if it is not what was stored."""
        if payload.ref is None:
            return payload.text.encode() if payload.text is not None else payload.base64 or b""
        value = self._view.get(payload.ref)
        if hashlib.sha256(value).hexdigest() != payload.sha256:
            raise StoreCorruptError(f"The data store holds another value under {payload.ref!r} than was written there.")
        return value

    def limited(self, limit: int) -> Payloads:
        """The same values, with at most `limit` bytes held inline."""
        return Payloads(self._data, self._flow, self._request_id, limit=min(limit, self.limit))

    @property
    def _view(self) -> DataStore:
        return self._data.configure(self._flow, self._request_id)


def size_of(payload: Payload) -> int:
    """The size of the value in bytes, without loading it."""
    if payload.ref is not None:
        return payload.size
    return len(payload.text.encode()) if payload.text is not None else len(payload.base64 or b"")
