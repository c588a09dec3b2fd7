"""Values on their way between nodes: small ones travel inside records and messages, large ones by reference.

A referenced value is named by its content, so that a second run of a node never changes what the first one recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

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
    """A payload that holds `value` itself: as text, unless it consists of what JSON has to escape."""
    return _held(value)[0]


def stored_size(value: bytes) -> int:
    """How many bytes `value` takes inside a record."""
    return _held(value)[1]


def _held(value: bytes) -> tuple[Payload, int]:
    if not value:
        return EMPTY, 0
    try:
        text = value.decode()
        size = len(msgspec.json.encode(text)) - 2
    except UnicodeDecodeError:
        text, size = None, 0
    if text is None or size > 2 * len(value):
        return Payload(base64=value), -(-len(value) // 3) * 4
    return Payload(text=text), size


class Payloads:
    """The values of one request, kept in `view`. `limit` is the largest size, in bytes, that is held inline: what a
    value takes in JSON, where it is escaped text or base64. `before_write` is called before each write to `view`. At
    most `loads_at_once` values are loaded at the same time."""

    def __init__(
        self,
        view: DataStore,
        *,
        limit: int = INLINE_LIMIT,
        before_write: Callable[[], None] = lambda: None,
        loads_at_once: int = 1,
    ) -> None:
        self._view = view
        self.limit = limit
        self._before_write = before_write
        self._loads_at_once = loads_at_once

    def store(self, name: str, value: bytes) -> Payload:
        """`value` as a payload; a large one is written under a key that begins with `name` first."""
        if len(value) <= self.limit:
            payload, size = _held(value)
            if size <= self.limit:
                return payload
        digest = hashlib.sha256(value).hexdigest()
        key = f"{name}~{digest[:32]}"
        self._before_write()
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

    def load_each(self, payloads: Mapping[str, Payload]) -> dict[str, bytes]:
        """The values by the keys of `payloads`, in their order. Several that are stored are loaded at once. Raises what
        `load` raises for the first that fails; no others are begun then."""
        stored = [key for key, payload in payloads.items() if payload.ref is not None]
        threads = min(len(stored), self._loads_at_once)
        if threads < 2:
            return {key: self.load(payload) for key, payload in payloads.items()}
        with ThreadPoolExecutor(threads, "load") as pool:
            loaded = dict(zip(stored, pool.map(self.load, [payloads[key] for key in stored]), strict=True))
        return {key: loaded[key] if key in loaded else self.load(payload) for key, payload in payloads.items()}

    def limited(self, limit: int) -> Payloads:
        """The same values, with at most `limit` bytes held inline."""
        return Payloads(
            self._view,
            limit=min(limit, self.limit),
            before_write=self._before_write,
            loads_at_once=self._loads_at_once,
        )


def size_of(payload: Payload) -> int:
    """The size of the value in bytes, without loading it."""
    if payload.ref is not None:
        return payload.size
    return len(payload.text.encode()) if payload.text is not None else len(payload.base64 or b"")
