"""Every decoder of msgspec.

Every type that msgspec decodes gets its decoder here, under one lock. msgspec (0.22) collects what it knows of a type
at its first use and publishes it before it is complete: two threads that use a type first at the same time crash the
process. A decoder that was built is complete, and any thread may use it.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import msgspec

_MOST_DECODERS = 1024

T = TypeVar("T")


class Built:
    """What is built once for a type. `build` makes one at a time, whatever it is."""

    _building = threading.RLock()

    def __init__(self) -> None:
        self._built: dict[Any, Any] = {}

    def get(self, kind: Any) -> Any:
        return self._built.get(kind) if _has_hash(kind) else None

    def build(self, kind: Any, make: Callable[[], T]) -> T:
        with self._building:
            decoder = make()
        if _has_hash(kind):
            if len(self._built) >= _MOST_DECODERS:  # types that are made again and again must not fill the memory
                self._built.clear()
            self._built[kind] = decoder
        return decoder


_json, _msgpack = Built(), Built()


def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of `kind` from JSON, complete before it is returned. Thread-safe."""
    found: msgspec.json.Decoder[T] | None = _json.get(kind)
    if found is None:
        import msgspec

        found = _json.build(kind, lambda: msgspec.json.Decoder(kind, strict=True, dec_hook=made))
    return found


def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """The decoder of `kind` from MessagePack, complete before it is returned. Thread-safe."""
    found: msgspec.msgpack.Decoder[T] | None = _msgpack.get(kind)
    if found is None:
        import msgspec

        found = _msgpack.build(kind, lambda: msgspec.msgpack.Decoder(kind))
    return found


def build_decoders() -> int:
    """Build the decoders of all records of this package that are imported, before threads start; how many they are."""
    import msgspec

    kinds = [kind for kind in _descendants(msgspec.Struct) if kind.__module__.startswith("faasflow.")]
    for kind in kinds:
        json_decoder(kind)
    return len(kinds)


def convert(value: Any, kind: Any, **options: Any) -> Any:
    """`value`, which JSON could hold, as the type `kind`; `ValueError` if it is not that."""
    import msgspec

    json_decoder(kind)
    return msgspec.convert(value, kind, dec_hook=made, **options)


def made(wanted: Any, value: Any) -> Any:
    """A value of a type that msgspec leaves to us: an iterable, a pydantic model, or a path."""
    import msgspec

    origin = typing.get_origin(wanted) or wanted
    if origin is Iterable:
        return convert(value, as_list(wanted))
    if hasattr(origin, "model_validate_json"):
        return origin.model_validate_json(msgspec.json.encode(value))
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    return origin(value)


def as_list(iterable: Any) -> Any:
    """The type of the list that is given for `Iterable[T]`."""
    return list[typing.get_args(iterable) or (Any,)]  # type: ignore[misc]


def _has_hash(kind: Any) -> bool:
    """Whether a type can be hashed; `Annotated[int, {}]` cannot."""
    try:
        hash(kind)
    except TypeError:
        return False
    return True


def _descendants(kind: type) -> Iterator[type]:
    child: type
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
