"""State in etcd (tested with 3.4), through the HTTP gateway that every server has.

A version is the revision of the last write, which etcd never gives twice. etcd takes 128 operations and 1.5 MB in one
transaction unless it is configured otherwise; a read of more keys is made in parts, all at the revision of the first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faasflow.errors import StoreError, StoreUnavailableError, ValueTooLargeError
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.address import Tls, parse_address, read_secret
from faasflow.stores.base import BaseStateStore, check_ops, conflicts_of, end_of_prefix
from faasflow.stores.http_pool import Answer, HttpPool

FORM = "'etcd://[USER:PASSWORD@]HOST[:PORT][?password_file=PATH]'"
LARGEST_READ = 128
"""Operations that etcd takes in one transaction, unless it is configured otherwise."""

_TRANSACTION = "/v3/kv/txn"
_NO_BOUND = "\0"
_TOO_LARGE = ("request is too large", "larger than max")
_OLD_TOKEN = ("invalid auth token", "revision of auth store is old")
_MAY_PASS = ("too many requests", "space exceeded", "has been compacted")


class EtcdStateStore(BaseStateStore):
    """A state store in the etcd at `host` and `port`, as `user` unless that is empty. Times are in seconds.

    The user needs a role that may read and write what starts with `faasflow/`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 2379,
        *,
        user: str = "",
        password: str = "",
        tls: Tls | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 10.0,
    ) -> None:
        self._pool = HttpPool("etcd", host, port, tls=tls, connect_timeout=connect_timeout, timeout=timeout)
        self._gateway = _Gateway(self._pool, user=user, password=password)

    @classmethod
    def from_url(cls, url: str) -> EtcdStateStore:
        """The store that an `etcd:` or `etcds:` URL names."""
        address = parse_address(url, form=FORM, port=2379, options=("password_file",))
        password = address.password or read_secret(address, "password_file")
        return cls(address.host, address.port, user=address.user, password=password, tls=address.tls)

    def init(self) -> None:
        self.read(["faasflow/"])

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        ranges = [*map(_one, dict.fromkeys(keys)), *map(_below, dict.fromkeys(prefixes))]
        found: dict[str, Entry] = {}
        revision: str | None = None
        for start in range(0, len(ranges), LARGEST_READ):
            part = [_at(revision, wanted) for wanted in ranges[start : start + LARGEST_READ]]
            answer = self._gateway.call(_TRANSACTION, {"success": part}, repeatable=True)
            revision = revision or answer["header"]["revision"]
            found |= _entries(answer)
        return dict(sorted(found.items()))

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        return {key: entry.value for key, entry in self._page(prefix, after, limit, keys_only=False)}

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        return [key for key, _ in self._page(prefix, after, limit, keys_only=True)]

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        guards = [op for op in ops if isinstance(op, Check | Create)]
        transaction = {
            "compare": [_compare(op) for op in guards],
            "success": [
                *(_write(op) for op in ops if not isinstance(op, Check | ListPrefix)),
                *(_below(op.prefix) for op in ops if isinstance(op, ListPrefix)),
            ],
            "failure": [_one(op.key, keys_only=True) for op in guards],
        }
        is_read = all(isinstance(op, Check | ListPrefix) for op in ops)
        answer = self._gateway.call(_TRANSACTION, transaction, repeatable=is_read)
        entries = _entries(answer)
        if answer.get("succeeded"):
            return Outcome(entries=dict(sorted(entries.items())))
        return Outcome(conflicts_of(ops, {key: entry.version for key, entry in entries.items()}))

    def clear(self, prefix: str) -> None:
        self._gateway.call("/v3/kv/deleterange", _bounds(prefix), repeatable=False)

    def close(self) -> None:
        self._pool.close()

    def _page(self, prefix: str, after: str, limit: int | None, *, keys_only: bool) -> Iterable[tuple[str, Entry]]:
        if limit == 0:  # which to etcd means all
            return ()
        page = {"key": _text(max(prefix, after + "\0")), "limit": limit or 0, "keys_only": keys_only}
        return _in_range(self._gateway.call("/v3/kv/range", _bounds(prefix) | page, repeatable=True))


class _Gateway:
    """etcd's calls as JSON over HTTP, made as `user` with a token that is fetched when it is needed."""

    def __init__(self, pool: HttpPool, *, user: str, password: str) -> None:
        self._pool = pool
        self._user = user
        self._password = password
        self._token = ""

    def call(self, path: str, body: Mapping[str, Any], *, repeatable: bool) -> dict[str, Any]:
        if self._user and not self._token:
            self._authenticate()
        answer = self._send(path, body, token=self._token, repeatable=repeatable)
        if self._user and answer.status != 200 and _says(answer, _OLD_TOKEN):
            # The server has restarted, or its users were changed: it has refused, and done nothing.
            self._authenticate()
            answer = self._send(path, body, token=self._token, repeatable=repeatable)
        return self._parsed(answer)

    def _authenticate(self) -> None:
        login = {"name": self._user, "password": self._password}
        self._token = self._parsed(self._send("/v3/auth/authenticate", login, token="", repeatable=True))["token"]

    def _send(self, path: str, body: Mapping[str, Any], *, token: str, repeatable: bool) -> Answer:
        headers = {"Authorization": token} if token else {}
        return self._pool.request("POST", path, body=json.dumps(body).encode(), headers=headers, repeatable=repeatable)

    def _parsed(self, answer: Answer) -> dict[str, Any]:
        if answer.status != 200:
            raise self._error(answer)
        parsed: dict[str, Any] = json.loads(answer.body)
        return parsed

    def _error(self, answer: Answer) -> StoreError:
        said = f"{self._pool.server} answered {answer.status}: {_message(answer)}."
        if _says(answer, _TOO_LARGE):
            return ValueTooLargeError(said, hint="Write less at once; keep large values in the data store.")
        if _says(answer, _MAY_PASS) or answer.status >= 500:
            return StoreUnavailableError(said, hint="Look at etcd's log: it may be without a leader, or full.")
        return StoreError(said, hint="Check the user, the password and what the user's role may read and write.")


def _message(answer: Answer) -> str:
    text = answer.body.decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _says(answer: Answer, texts: Iterable[str]) -> bool:
    message = _message(answer)
    return any(text in message for text in texts)


def _one(key: str, *, keys_only: bool = False) -> dict[str, Any]:
    return {"request_range": {"key": _text(key), "keys_only": keys_only}}


def _below(prefix: str) -> dict[str, Any]:
    return {"request_range": _bounds(prefix)}


def _at(revision: str | None, wanted: dict[str, Any]) -> dict[str, Any]:
    return {"request_range": wanted["request_range"] | {"revision": revision or 0}}


def _bounds(prefix: str) -> dict[str, Any]:
    return {"key": _text(prefix or _NO_BOUND), "range_end": _text(end_of_prefix(prefix) or _NO_BOUND)}


def _compare(op: Check | Create) -> dict[str, Any]:
    version = op.version if isinstance(op, Check) else None
    # A key that does not exist has revision 0.
    return {"key": _text(op.key), "target": "MOD", "result": "EQUAL", "mod_revision": version or 0}


def _write(op: Create | Put | Delete) -> dict[str, Any]:
    if isinstance(op, Delete):
        return {"request_delete_range": {"key": _text(op.key)}}
    return {"request_put": {"key": _text(op.key), "value": _base64(op.value)}}


def _entries(answer: Mapping[str, Any]) -> dict[str, Entry]:
    found = (response["response_range"] for response in answer.get("responses", ()) if "response_range" in response)
    return {key: entry for part in found for key, entry in _in_range(part)}


def _in_range(answer: Mapping[str, Any]) -> Iterable[tuple[str, Entry]]:
    for item in answer.get("kvs", ()):
        value = base64.b64decode(item.get("value", ""))
        yield base64.b64decode(item["key"]).decode(), Entry(value, int(item["mod_revision"]))


def _text(text: str) -> str:
    return _base64(text.encode())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
