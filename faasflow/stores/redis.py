"""State in Redis (tested with 7.0), or in what speaks its protocol and runs its Lua scripts.

All state lies in two hashes and a sorted set: `{faasflow}:values` and `{faasflow}:versions` by key, and the keys in
order in `{faasflow}:keys`, so that those of one request are found without a walk through all. Every operation is one
script, hence one moment. A version is a random text, which no restart and no change of the primary brings back.

Redis keeps what it acknowledged as well as it is told to: with `appendonly yes` and `appendfsync always` nothing is
lost. It must be the primary, and not a Redis Cluster, where all would lie on one node.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from faasflow.errors import ConfigError, StoreError, StoreUnavailableError
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.sockets import is_silence, socket_options
from faasflow.stores.address import LONGEST_IDLE, LONGEST_SILENCE, Tls, parse_address, read_secret
from faasflow.stores.base import BaseStateStore, check_ops, end_of_prefix

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as exc:
    raise ConfigError(
        "State in Redis needs the package 'redis', which is not installed.", hint="pip install 'faasflow[redis]'"
    ) from exc

FORM = "'redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER][?password_file=PATH]'"

_NAMES = ["{faasflow}:values", "{faasflow}:versions", "{faasflow}:keys"]
_DURABLE = "Set appendonly to yes and appendfsync to always."
_LATE_FSYNC = ("everysec", "no")
_CONNECTIONS = 64
_CLEARED_AT_ONCE = 1000
_REFUSED = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError)
# What Redis answers while it starts, fails over, or has no room.
_MAY_PASS = ("OOM", "READONLY", "MISCONF", "BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS")
_MAY_PASS_ERRORS = (
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)

# Key, version and value of each found key, one behind the other.
_FIND = """
local values, versions, keys = KEYS[1], KEYS[2], KEYS[3]
local found = {}
local function find(key)
  local version = redis.call('HGET', versions, key)
  if version then
    found[#found + 1] = key
    found[#found + 1] = version
    found[#found + 1] = redis.call('HGET', values, key)
  end
end
local function find_between(first, last, limit)
  for _, key in ipairs(redis.call('ZRANGEBYLEX', keys, first, last, 'LIMIT', 0, limit)) do
    find(key)
  end
end
"""
# limit, number of keys, keys, bounds of the ranges
_READ = (
    _FIND
    + """
local last_key = 2 + ARGV[2]
for at = 3, last_key do
  find(ARGV[at])
end
for at = last_key + 1, #ARGV, 2 do
  find_between(ARGV[at], ARGV[at + 1], ARGV[1])
end
return found
"""
)
# bounds of a range, limit
_LIST_KEYS = "return redis.call('ZRANGEBYLEX', KEYS[3], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])"
# version, number of guards and of writes, guards (key and version), writes (key, kind and value), bounds of the ranges
_TRANSACT = (
    _FIND
    + """
local version = ARGV[1]
local last_guard = 3 + 2 * ARGV[2]
local last_write = last_guard + 3 * ARGV[3]
local conflicts = {}
for at = 4, last_guard, 2 do
  if (redis.call('HGET', versions, ARGV[at]) or '') ~= ARGV[at + 1] then
    conflicts[#conflicts + 1] = ARGV[at]
  end
end
if #conflicts > 0 then
  return {conflicts, {}}
end
for at = last_guard + 1, last_write, 3 do
  local key = ARGV[at]
  if ARGV[at + 1] == 'put' then
    redis.call('HSET', values, key, ARGV[at + 2])
    redis.call('HSET', versions, key, version)
    redis.call('ZADD', keys, 0, key)
  else
    redis.call('HDEL', values, key)
    redis.call('HDEL', versions, key)
    redis.call('ZREM', keys, key)
  end
end
for at = last_write + 1, #ARGV, 2 do
  find_between(ARGV[at], ARGV[at + 1], -1)
end
return {{}, found}
"""
)
# bounds of a range, how many to delete
_CLEAR = """
local some = redis.call('ZRANGEBYLEX', KEYS[3], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
for _, key in ipairs(some) do
  redis.call('HDEL', KEYS[1], key)
  redis.call('HDEL', KEYS[2], key)
  redis.call('ZREM', KEYS[3], key)
end
return #some
"""


class RedisStateStore(BaseStateStore):
    """A state store in database `db` of the Redis at `host` and `port`. Times are in seconds.

    The user, if there are several, may run `EVALSHA` and `SCRIPT LOAD` on the keys `{faasflow}:*`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6379,
        *,
        db: int = 0,
        user: str = "",
        password: str = "",
        tls: Tls | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 10.0,
    ) -> None:
        self._server = f"Redis at {host}:{port}"
        pool = _Pool(  # type: ignore[no-untyped-call]
            host=host,
            port=port,
            db=db,
            username=user or None,
            password=password or None,
            max_connections=_CONNECTIONS,
            timeout=timeout,
            socket_connect_timeout=connect_timeout,
            socket_timeout=timeout,
            socket_keepalive=True,
            socket_keepalive_options=_keepalive_options(),
            # A script whose answer is lost may have run, so nothing is repeated behind our back.
            retry=Retry(NoBackoff(), 0),
            **_tls_options(tls),
        )
        self._client = redis.Redis(connection_pool=pool)
        self._read = self._client.register_script(_READ)
        self._list_keys = self._client.register_script(_LIST_KEYS)
        self._transact = self._client.register_script(_TRANSACT)
        self._clear = self._client.register_script(_CLEAR)

    @classmethod
    def from_url(cls, url: str) -> RedisStateStore:
        """The store that a `redis:` or `rediss:` URL names."""
        address = parse_address(url, form=FORM, port=6379, options=("password_file",), path=r"\d{0,5}")
        return cls(
            address.host,
            address.port,
            db=int(address.path or 0),
            user=address.user,
            password=address.password or read_secret(address, "password_file"),
            tls=address.tls,
        )

    def init(self) -> None:
        """Refuses a Redis that drops keys when memory is short."""
        self.read(["faasflow/"])
        policy = self._memory_policy()
        if policy.startswith("allkeys"):
            raise ConfigError(
                f"{self._server} drops keys when its memory is full (maxmemory-policy {policy!r}).",
                hint="Set its maxmemory-policy to 'noeviction', or name another one.",
            )

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        bounds = [bound for prefix in prefixes for bound in _bounds(prefix)]
        return _entries(self._run(self._read, [-1, len(keys), *map(_utf8, keys), *bounds], repeatable=True))

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        arguments: list[bytes | int] = [-1 if limit is None else limit, 0, *_bounds_behind(after, prefix)]
        return {key: entry.value for key, entry in _entries(self._run(self._read, arguments, repeatable=True)).items()}

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        arguments: list[bytes | int] = [*_bounds_behind(after, prefix), -1 if limit is None else limit]
        return [key.decode() for key in self._run(self._list_keys, arguments, repeatable=True)]

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        guards = [part for op in ops if isinstance(op, Check | Create) for part in _guard(op)]
        writes = [part for op in ops if not isinstance(op, Check | ListPrefix) for part in _write(op)]
        bounds = [bound for op in ops if isinstance(op, ListPrefix) for bound in _bounds(op.prefix)]
        arguments: list[bytes | int] = [_new_version(), len(guards) // 2, len(writes) // 3, *guards, *writes, *bounds]
        conflicts, found = self._run(self._transact, arguments, repeatable=not writes)
        return Outcome(tuple(dict.fromkeys(key.decode() for key in conflicts)), _entries(found))

    def clear(self, prefix: str) -> None:
        # In parts, as Redis does nothing else meanwhile.
        while self._run(self._clear, [*_bounds(prefix), _CLEARED_AT_ONCE], repeatable=True) == _CLEARED_AT_ONCE:
            pass

    def find_risks(self) -> Sequence[str]:
        """What a crash of the server may lose. A server that does not let this user ask has none that are known."""
        if self._info("persistence").get("aof_enabled", 1) == 0:
            return [f"{self._server} has no append-only file: a crash loses all since its last snapshot. {_DURABLE}"]
        if (fsync := self._setting("appendfsync")) in _LATE_FSYNC:
            return [
                f"{self._server} writes to disk late (appendfsync {fsync}): a crash loses the last second. {_DURABLE}"
            ]
        return []

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    def _run(self, script: Any, arguments: Sequence[bytes | int], *, repeatable: bool) -> Any:
        """What a script answers. One that is `repeatable` is run once more if the connection breaks."""
        with self._errors():
            try:
                return script(keys=_NAMES, args=arguments)
            except (redis.ConnectionError, redis.TimeoutError) as exc:
                is_slow = isinstance(exc, redis.TimeoutError) and not is_silence(exc)
                if not repeatable or is_slow or isinstance(exc, _REFUSED):
                    raise
            return script(keys=_NAMES, args=arguments)

    def _memory_policy(self) -> str:
        return str(self._info("memory").get("maxmemory_policy", ""))

    def _info(self, section: str) -> dict[str, Any]:
        """What the server says of itself; nothing where this user may not ask."""
        return self._asked(lambda: self._client.info(section))

    def _setting(self, name: str) -> str:
        return str(self._asked(lambda: self._client.config_get(name)).get(name, ""))

    def _asked(self, ask: Callable[[], Any]) -> dict[str, Any]:
        try:
            with self._errors():
                return dict(ask())
        except StoreUnavailableError:
            raise
        except StoreError:  # this user may not ask, or the server does not know the question
            return {}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _REFUSED as exc:
            raise StoreError(
                f"{self._server} refused: {exc}.",
                hint="Check the user and the password; the user may run EVALSHA and SCRIPT LOAD on '{faasflow}:*'.",
            ) from exc
        except redis.TimeoutError as exc:
            raise StoreUnavailableError(
                f"{self._server} did not answer in time.", hint="Look at its load and at the network between."
            ) from exc
        except redis.ConnectionError as exc:
            raise StoreUnavailableError(
                f"{self._server} cannot be reached: {exc}", hint="Check that it runs and that its address is right."
            ) from exc
        except redis.RedisError as exc:
            if isinstance(exc, _MAY_PASS_ERRORS) or str(exc).startswith(_MAY_PASS):
                text = f"{self._server} does not take this now: {exc}"
                raise StoreUnavailableError(text, hint="Look at its log, its memory and its role.") from exc
            raise StoreError(f"{self._server} refused an operation: {exc}") from exc


class _Pool(redis.BlockingConnectionPool):
    """A pool that uses no connection which was idle for long."""

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        connection = super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]
        if time.monotonic() - getattr(connection, "idle_since", float("inf")) > LONGEST_IDLE:
            self._open_again(connection)
        return connection

    def release(self, connection: Any) -> None:
        connection.idle_since = time.monotonic()
        super().release(connection)  # type: ignore[no-untyped-call]

    def _open_again(self, connection: Any) -> None:
        connection.disconnect()
        try:
            connection.connect()
        except BaseException:
            self.release(connection)
            raise


def _keepalive_options() -> dict[int, int]:
    return {name: value for level, name, value in socket_options(LONGEST_SILENCE) if level == socket.IPPROTO_TCP}


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    tls.context()  # files that cannot be used are told now, and in our words
    return {
        "connection_class": redis.SSLConnection,
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
    }


def _guard(op: Check | Create) -> tuple[bytes, bytes]:
    version = op.version if isinstance(op, Check) else None
    assert version is None or isinstance(version, bytes)
    return _utf8(op.key), version or b""


def _write(op: Create | Put | Delete) -> tuple[bytes, bytes, bytes]:
    return (_utf8(op.key), b"delete", b"") if isinstance(op, Delete) else (_utf8(op.key), b"put", op.value)


def _new_version() -> bytes:
    return os.urandom(9).hex().encode()


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    behind = end_of_prefix(prefix)
    return b"[" + prefix.encode(), b"+" if behind is None else b"(" + behind.encode()


def _bounds_behind(after: str, prefix: str) -> tuple[bytes, bytes]:
    first, last = _bounds(prefix)
    return (b"(" + after.encode() if after >= prefix else first), last


def _entries(found: Sequence[bytes]) -> dict[str, Entry]:
    triples = zip(found[0::3], found[1::3], found[2::3], strict=True)
    entries = {key.decode(): Entry(value, version) for key, version, value in triples}
    return dict(sorted(entries.items()))


def _utf8(text: str) -> bytes:
    return text.encode()
