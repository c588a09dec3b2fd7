"""The store adapters, and how a URL names one. An adapter is imported when one of its stores is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from faasflow.errors import ConfigError

if TYPE_CHECKING:
    from faasflow.ports import DataStore, StateStore

_FORMS = "Use 'memory:', or 'sqlite:///absolute/path.db', which may end in '?durability=full'."


def open_state_store(url: str) -> StateStore:
    """The state store that `url` names: `memory:` (a new one at every call) or `sqlite:///absolute/path.db`."""
    parts = _split(url)
    if parts.scheme == "memory":
        from faasflow.stores.memory import MemoryStateStore

        return MemoryStateStore()
    from faasflow.stores.sqlite import SqliteStateStore

    return SqliteStateStore(unquote(parts.path), **_sqlite_options(url, parts.query))


def open_data_store(url: str) -> DataStore:
    """The data store that `url` names, in the forms of `open_state_store`; both may name the same file."""
    parts = _split(url)
    if parts.scheme == "memory":
        from faasflow.stores.memory import MemoryDataStore

        return MemoryDataStore()
    from faasflow.stores.sqlite import SqliteDataStore

    return SqliteDataStore(unquote(parts.path), **_sqlite_options(url, parts.query))


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    is_memory = url == "memory:"
    is_sqlite = url.startswith("sqlite:///") and not parts.path.endswith("/") and not parts.fragment
    if not (is_memory or is_sqlite):
        raise ConfigError(f"The store URL {url!r} cannot be understood. {_FORMS}")
    return parts


def _sqlite_options(url: str, query: str) -> dict[str, Any]:
    try:
        options = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=1)
    except ValueError:
        options = {"": []}
    if options and options.keys() != {"durability"}:
        raise ConfigError(f"The options of the store URL {url!r} cannot be understood. {_FORMS}")
    return {name: values[0] for name, values in options.items()}
