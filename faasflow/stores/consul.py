"""State in Consul's key-value store (tested with 1.8), through `python-consul` or, in its place, `py-consul`.

All keys lie below `faasflow/`, each with a `;` at its end: Consul fails a transaction that reads a key which is not
there, so a key is read as the tree of its name, and the `;` makes that tree hold nothing else. A key that does not
start with `faasflow/` lies below `faasflow/$/`. Every write has new flags, as Consul takes one that changes nothing for
none.

Consul takes 64 operations and 512 KB in one transaction. A read of more keys than that is made in parts, again and
again until nothing changed in between; a write of more is refused.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any
from urllib.parse import quote, urlencode

import consul.base  # type: ignore[import-untyped]

from faasflow.errors import StoreError, StoreUnavailableError, ValueTooLargeError
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.address import Tls, parse_address, read_secret
from faasflow.stores.base import BaseStateStore, check_ops
from faasflow.stores.http_pool import Answer, HttpPool

FORM = "'consul://[TOKEN@]HOST[:PORT][?dc=NAME&token_file=PATH]'"
LARGEST_TRANSACTION = 64
"""Operations that Consul takes in one transaction; newer servers take more."""

_ROOT = "faasflow/"
_OUTSIDE = "faasflow/$/"
_END = ";"
_TRANSACTION = "/v1/txn"
# In a transaction values are base64 in JSON, and all of it together may have 512 KB.
_LARGEST_IN_TRANSACTION = 256 * 1024
_READS = 20
_CONFLICT = re.compile(r'failed index check|failed to check index|failed to set key|key ".*" exists', re.DOTALL)


class ConsulStateStore(BaseStateStore):
    """A state store in the Consul that the agent at `host` and `port` belongs to, in the data centre `dc` (the agent's
    own if empty). Times are in seconds. What the environment says of Consul is not used.

    The ACL `token` must be allowed to write the key prefix `faasflow/`. To a token that may not read, Consul shows an
    empty store; `init` tells the two apart.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8500,
        *,
        token: str = "",
        dc: str = "",
        tls: Tls | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 10.0,
    ) -> None:
        self._pool = HttpPool("Consul", host, port, tls=tls, connect_timeout=connect_timeout, timeout=timeout)
        self._reads = _Client(_Http(self._pool, token=token, dc=dc, repeatable=True))
        self._writes = _Client(_Http(self._pool, token=token, dc=dc, repeatable=False))

    @classmethod
    def from_url(cls, url: str) -> ConsulStateStore:
        """The store that a `consul:` or `consuls:` URL names."""
        address = parse_address(url, form=FORM, port=8500, options=("dc", "token_file"))
        token = address.user or read_secret(address, "token_file")
        return cls(address.host, address.port, token=token, dc=address.options.get("dc", ""), tls=address.tls)

    def init(self) -> None:
        self._reads.kv.get(_ROOT)

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        trees = list(dict.fromkeys([*map(_stored, keys), *map(_tree, prefixes)]))
        return _chosen(self._snapshot(trees), keys, prefixes)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        if limit is None:
            return super().list(prefix, after=after)
        behind = iter(self.keys(prefix, after=after))
        found: dict[str, bytes] = {}
        # A key may be deleted after its name was read, and must not leave a gap in a page.
        while len(found) < limit and (part := list(islice(behind, min(limit - len(found), LARGEST_TRANSACTION)))):
            found |= {key: entry.value for key, entry in sorted(self.read(part).items())}
        return found

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        # Consul takes no URL with an unprintable character in it.
        tree = "".join(takewhile(str.isprintable, _tree(prefix)))
        _, names = self._reads.kv.get(tree, keys=True)
        return sorted(key for key in _keys(names or ()) if key.startswith(prefix) and key > after)[:limit]

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        if not ops:
            return Outcome()
        if (large := _large_alone(ops)) is not None:
            return self._write_large(large, ops)
        steps = _steps(ops)
        client = self._reads if all(isinstance(op, Check | ListPrefix) for op in ops) else self._writes
        answer = client.txn.put([{"KV": step} for step in steps])
        if answer["Errors"]:
            return Outcome(_conflicts(ops, steps, answer["Errors"]))
        prefixes = [op.prefix for op in ops if isinstance(op, ListPrefix)]
        # The check of a key has a result, also where the key is deleted behind it.
        deleted = {op.key for op in ops if isinstance(op, Delete)}
        found = {key: entry for key, entry in _entries(answer).items() if key not in deleted}
        return Outcome(entries=_chosen(found, (), prefixes))

    def clear(self, prefix: str) -> None:
        self._writes.kv.delete(_tree(prefix), recurse=True)

    def close(self) -> None:
        self._pool.close()

    def _snapshot(self, trees: Sequence[str]) -> dict[str, Entry]:
        found = self._collected(trees)
        if len(trees) <= LARGEST_TRANSACTION:
            return found
        # What two passes saw alike was so at every moment between them, as no version returns.
        for _ in range(_READS):
            again = self._collected(trees)
            if again == found:
                return found
            found = again
        raise StoreUnavailableError(f"{len(trees)} keys did not stand still while they were read.", hint="Try again.")

    def _collected(self, trees: Sequence[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for start in range(0, len(trees), LARGEST_TRANSACTION):
            part = trees[start : start + LARGEST_TRANSACTION]
            answer = self._reads.txn.put([{"KV": _list(tree)} for tree in part])
            _refuse(answer["Errors"])
            found |= _entries(answer)
        return found

    def _write_large(self, op: Create | Put, ops: Sequence[Op]) -> Outcome:
        indexes = {op.version or 0 for op in ops if isinstance(op, Check)} | ({0} if isinstance(op, Create) else set())
        cas = indexes.pop() if indexes else None
        is_possible = not indexes
        if is_possible and self._writes.kv.put(_stored(op.key), op.value, cas=cas, flags=_new_flags()):
            return Outcome()
        return Outcome((op.key,))


class _Client(consul.base.Consul):  # type: ignore[misc]
    """The library's client with a transport of ours. Its own start-up is left out: there the environment overrides what
    it is told. `python-consul` keeps the two APIs inside the class, `py-consul` beside it."""

    def __init__(self, http: _Http) -> None:
        apis = consul.base if hasattr(consul.base, "KV") else consul.base.Consul
        self.http = http
        self.token = self.dc = None
        self.consistency = "default"
        self.kv = apis.KV(self)
        self.txn = apis.Txn(self)


class _Http:
    """What the library sends its requests through. Every read is a consistent one; the library does not say so for
    transactions, nor where and with which token they are made."""

    def __init__(self, pool: HttpPool, *, token: str, dc: str, repeatable: bool) -> None:
        self._pool = pool
        self._params = [("consistent", "1"), *([("dc", dc)] if dc else [])]
        self._headers = {"X-Consul-Token": token} if token else {}
        self._repeatable = repeatable

    def get(self, callback: Callable[[Any], Any], path: str, params: Any = None, **_: Any) -> Any:
        return self._call(callback, "GET", path, params)

    def put(self, callback: Callable[[Any], Any], path: str, params: Any = None, data: Any = "", **_: Any) -> Any:
        return self._call(callback, "PUT", path, params, data)

    def delete(self, callback: Callable[[Any], Any], path: str, params: Any = None, **_: Any) -> Any:
        return self._call(callback, "DELETE", path, params)

    def _call(self, callback: Callable[[Any], Any], method: str, path: str, params: Any, data: Any = b"") -> Any:
        target = f"{quote(path)}?{urlencode([*(params or ()), *self._params])}"
        body = data if isinstance(data, bytes) else data.encode()
        answer = self._pool.request(method, target, body=body, headers=self._headers, repeatable=self._repeatable)
        if answer.status not in (200, 404, 409):
            raise self._error(answer)
        # The library raises for 409, which says that a transaction met a conflict, and hides what it says.
        code = 200 if answer.status == 409 else answer.status
        return callback(consul.base.Response(code, answer.headers, answer.body.decode()))

    def _error(self, answer: Answer) -> StoreError:
        text = answer.body.decode("utf-8", "replace").strip()[:200]
        said = f"{self._pool.server} answered {answer.status}: {text}"
        if answer.status in (401, 403):
            return StoreError(f"{said}.", hint=f"Give a token that may read and write the key prefix {_ROOT!r}.")
        if answer.status == 413:
            return ValueTooLargeError(f"{said}.", hint="Write less at once; keep large values in the data store.")
        if answer.status == 429 or answer.status >= 500:
            return StoreUnavailableError(f"{said}.", hint="Look at Consul's log: it may be without a leader.")
        return StoreError(f"{said}.")


def _steps(ops: Sequence[Op]) -> list[dict[str, Any]]:
    """What Consul is to do. It goes through it in order, so what checks comes first and what lists comes last."""
    steps = [_check(op) for op in ops if isinstance(op, Check)]
    steps += [_write(op) for op in ops if not isinstance(op, Check | ListPrefix)]
    trees = list(dict.fromkeys(_tree(op.prefix) for op in ops if isinstance(op, ListPrefix)))
    if len(steps) + len(trees) > LARGEST_TRANSACTION and trees:
        trees = [_common_start(trees)]
    steps += [_list(tree) for tree in trees]
    if len(steps) > LARGEST_TRANSACTION:
        raise StoreError(
            f"A transaction of {len(steps)} operations is more than Consul takes, which is {LARGEST_TRANSACTION}.",
            hint="Write fewer keys at once.",
        )
    return steps


def _check(op: Check) -> dict[str, Any]:
    if op.version is None:
        return {"Verb": "check-not-exists", "Key": _stored(op.key)}
    return {"Verb": "check-index", "Key": _stored(op.key), "Index": op.version}


def _write(op: Create | Put | Delete) -> dict[str, Any]:
    if isinstance(op, Delete):
        return {"Verb": "delete", "Key": _stored(op.key)}
    value = base64.b64encode(op.value).decode()
    step = {"Verb": "set", "Key": _stored(op.key), "Value": value, "Flags": _new_flags()}
    return step | {"Verb": "cas", "Index": 0} if isinstance(op, Create) else step


def _list(tree: str) -> dict[str, Any]:
    return {"Verb": "get-tree", "Key": tree}


def _common_start(trees: Sequence[str]) -> str:
    first, last = min(trees), max(trees)
    return first[: next((at for at, letter in enumerate(first) if last[at : at + 1] != letter), len(first))]


def _large_alone(ops: Iterable[Op]) -> Create | Put | None:
    """The large value that the whole transaction is about, if it is."""
    writes = [op for op in ops if isinstance(op, Create | Put) and len(op.value) > _LARGEST_IN_TRANSACTION]
    if len(writes) != 1 or any(isinstance(op, Delete | ListPrefix) or op.key != writes[0].key for op in ops):
        return None
    return writes[0]


def _new_flags() -> int:
    return int.from_bytes(os.urandom(6), "big")


def _conflicts(
    ops: Iterable[Op], steps: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    _refuse([error for error in errors if not _CONFLICT.match(error["What"])])
    failed = {steps[error["OpIndex"]]["Key"] for error in errors}
    guards = (op.key for op in ops if isinstance(op, Check | Create))
    return tuple(dict.fromkeys(key for key in guards if _stored(key) in failed))


def _refuse(errors: Sequence[Mapping[str, Any]] | None) -> None:
    for error in errors or ():
        hint = f"Give a token that may read and write the key prefix {_ROOT!r}." if "ermission" in error["What"] else ""
        raise StoreError(f"Consul refused a transaction: {error['What']}.", hint=hint)


def _entries(answer: Mapping[str, Any]) -> dict[str, Entry]:
    """What is in the results of a transaction, by key. Writes have results too, without values; they stand before those
    of the trees, which replace them."""
    found = {result["KV"]["Key"]: result["KV"] for result in answer["Results"] or ()}
    return {key: _entry(found[name]) for key, name in _keys(found).items()}


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(base64.b64decode(item["Value"] or ""), item["ModifyIndex"])


def _chosen(entries: Mapping[str, Entry], keys: Iterable[str], prefixes: Iterable[str]) -> dict[str, Entry]:
    wanted, starts = set(keys), tuple(prefixes)
    return {key: entries[key] for key in sorted(entries) if key in wanted or key.startswith(starts)}


def _stored(key: str) -> str:
    return _placed(key) + _END


def _tree(prefix: str) -> str:
    """The smallest tree that holds every key which starts with `prefix`."""
    return _ROOT if _ROOT.startswith(prefix) else _placed(prefix)


def _placed(text: str) -> str:
    is_inside = text.startswith(_ROOT) and not text.startswith(_OUTSIDE)
    return text if is_inside else _OUTSIDE + text


def _keys(stored: Iterable[str]) -> dict[str, str]:
    """The stored names that are ours, by their keys."""
    return {name.removesuffix(_END).removeprefix(_OUTSIDE): name for name in stored if name.endswith(_END)}
