"""The store adapters, and how a URL names one. An adapter is imported when one of its stores is opened.

State: `memory:` · `sqlite:///absolute/path.db` · `consul://[TOKEN@]HOST[:PORT][?dc=NAME&token_file=PATH]` ·
`etcd://[USER:PASSWORD@]HOST[:PORT][?password_file=PATH]` ·
`redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER][?password_file=PATH]`.

Data: `memory:` · `sqlite:///absolute/path.db` · `file:///absolute/folder` ·
`s3://[ACCESS_KEY:SECRET_KEY@]HOST[:PORT][/BUCKET][?region=NAME&access_key_file=PATH&secret_key_file=PATH]`.

With an `s` behind the scheme of a server (`consuls:`, `etcds:`, `rediss:`, `s3s:`) the connection is encrypted, and
`ca_file`, `cert_file` and `key_file` may name PEM files. A user, password, token or key in a URL is percent-encoded; it
is better kept in a file, such as a mounted secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from faasflow.errors import ConfigError
from faasflow.stores.address import shown

if TYPE_CHECKING:
    from faasflow.ports import DataStore, StateStore
    from faasflow.stores.simple import SimpleStateStore, SimpleStore

__all__ = ["SimpleStateStore", "SimpleStore", "open_data_store", "open_state_store"]

_FORMS = "Use 'memory:', or 'sqlite:///absolute/path.db', which may end in '?durability=full'."
_STATE_FORMS = f"{_FORMS} A server is 'consul://host', 'etcd://host' or 'redis://host', also with a port."
_DATA_FORMS = (
    f"{_FORMS} A folder is 'file:///absolute/folder', and a server is 's3://host', also with a port and bucket."
)


def open_state_store(url: str) -> StateStore:
    """The state store that `url` names; for `memory:` a new one at every call."""
    match url.partition(":")[0]:
        case "consul" | "consuls":
            from faasflow.stores.consul import ConsulStateStore

            return ConsulStateStore.from_url(url)
        case "etcd" | "etcds":
            from faasflow.stores.etcd import EtcdStateStore

            return EtcdStateStore.from_url(url)
        case "redis" | "rediss":
            from faasflow.stores.redis import RedisStateStore

            return RedisStateStore.from_url(url)
    parts = _split(url, _STATE_FORMS)
    if parts.scheme == "memory":
        from faasflow.stores.memory import MemoryStateStore

        return MemoryStateStore()
    from faasflow.stores.sqlite import SqliteStateStore

    return SqliteStateStore(unquote(parts.path), **_sqlite_options(url, parts.query))


def open_data_store(url: str) -> DataStore:
    """The data store that `url` names; for `memory:` a new one at every call. A SQLite file may be that of a state
    store."""
    match url.partition(":")[0]:
        case "s3" | "s3s":
            from faasflow.stores.s3 import S3DataStore

            return S3DataStore.from_url(url)
        case "file":
            from faasflow.stores.files import FileDataStore

            return FileDataStore(_folder(url))
    parts = _split(url, _DATA_FORMS)
    if parts.scheme == "memory":
        from faasflow.stores.memory import MemoryDataStore

        return MemoryDataStore()
    from faasflow.stores.sqlite import SqliteDataStore

    return SqliteDataStore(unquote(parts.path), **_sqlite_options(url, parts.query))


def __getattr__(name: str) -> Any:
    if name in ("SimpleStateStore", "SimpleStore"):
        from faasflow.stores import simple

        return getattr(simple, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _split(url: str, forms: str) -> SplitResult:
    parts = urlsplit(url)
    is_memory = url == "memory:"
    is_sqlite = url.startswith("sqlite:///") and not parts.path.endswith("/") and not parts.fragment
    if not (is_memory or is_sqlite):
        raise ConfigError(f"The store URL {shown(url)!r} cannot be understood. {forms}")
    return parts


def _folder(url: str) -> str:
    parts = urlsplit(url)
    if not url.startswith("file:///") or not parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"The store URL {shown(url)!r} cannot be understood. {_DATA_FORMS}")
    return unquote(parts.path)


def _sqlite_options(url: str, query: str) -> dict[str, Any]:
    try:
        options = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=1)
    except ValueError:
        options = {"": []}
    if options and options.keys() != {"durability"}:
        raise ConfigError(f"The options of the store URL {shown(url)!r} cannot be understood. {_FORMS}")
    return {name: values[0] for name, values in options.items()}
