"""What a handler sees of the request it works for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from faasflow import graph
from faasflow.codec import encode, encode_json
from faasflow.engine import plan
from faasflow.engine.guard import engine_code
from faasflow.engine.ledger import Ledger
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.payload import Payload, Payloads
from faasflow.engine.position import Step
from faasflow.engine.records import NodeRecord, dump, load, node_error
from faasflow.errors import KeyNotFoundError, NodeError, NoResultError
from faasflow.naming import escape


class Query(Mapping[str, str]):
    """The query of the request's start: a mapping to the first value of each key; `get_all` gives every value."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = parse_qs(text, keep_blank_values=True)

    def __getitem__(self, key: str) -> str:
        return self._values[key][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, key: str) -> list[str]:
        """Every value of `key`, in order; an empty list if there is none."""
        return list(self._values.get(key, []))


class _Value(msgspec.Struct, frozen=True):
    payload: Payload
    is_json: bool


class Context:
    """The request that is being worked for, as `define` and the code it names see it.

    `name` is the flow's. `state` is "ongoing", and in `finally_` "success", "failure" or "stopped". Values that are
    `set` belong to the request, are seen by every later node, and are removed with it. In the aggregator of a foreach
    that tolerates failures `failed_branches` says which branches failed, and with what. While an operation runs,
    `attempt` is the number of its node's attempt, and `idempotency_key` the same each time that the operation is
    repeated. Only after a function or URL has answered that it failed, the next call of it has another key.
    """

    def __init__(self, name: str, request_id: str, query: str) -> None:
        self.name = name
        self.request_id = request_id
        self.query = Query(query)
        self.state = RequestState.RUNNING.outcome
        self.node = ""
        self.node_input: Mapping[str, bytes] = {}
        self.attempt = 0
        self.idempotency_key = ""
        self.failed_branches: Mapping[str, NodeError] = {}
        self._ledger: Ledger | None = None
        self._payloads: Payloads | None = None
        self._definition: graph.Definition | None = None
        self._step: Step | None = None

    def set(self, key: str, value: Any) -> None:
        """Store bytes, or anything JSON can hold, under `key` for the nodes that follow."""
        ledger, payloads = self._stores("set", key)
        what = f"context.set({key!r})"
        is_json = not isinstance(value, bytes | bytearray | memoryview)
        data = encode_json(value, what, verb="got") if is_json else encode(value, what)
        with engine_code():
            payload = payloads.store(f"data/{escape(key)}", data)
            ledger.set(_key(key), dump(_Value(payload, is_json)))

    def get(self, key: str, default: Any = None) -> Any:
        """What was stored under `key`: bytes as bytes, other values as JSON gives them back; `default` if nothing
        was.
        """
        ledger, payloads = self._stores("get", key)
        with engine_code():
            try:
                stored = load(ledger.get(_key(key)), _Value, key)
            except KeyNotFoundError:
                return default
            data = payloads.load(stored.payload)
        return msgspec.json.decode(data) if stored.is_json else data

    def delete(self, key: str) -> None:
        """Forget `key`; one that was never stored is fine."""
        ledger, _ = self._stores("delete", key)
        with engine_code():
            ledger.delete(_key(key))

    def result(self, node: str) -> bytes:
        """The recorded result of a node that ran before this one: of the same DAG, or else of the nearest around it.
        `NoResultError` if there is none."""
        _, payloads = self._stores("result", node)
        record = self._record("result", node)
        with engine_code():
            return payloads.load(record.result)

    def failure(self, node: str) -> NodeError | None:
        """Why a node that ran before this one failed, where the flow went on all the same; `None` if it did not fail.
        `NoResultError` if it did not run."""
        failure = self._record("failure", node).failure
        return node_error(failure) if failure is not None else None

    def _record(self, call: str, node: str) -> NodeRecord:
        ledger, _ = self._stores(call, node)
        assert self._definition is not None
        assert self._step is not None
        key = plan.result_key(self._definition, self._step.position, node)
        if key is None:
            raise NoResultError(f"context.{call}({node!r}): the flow has no such node here.")
        try:
            with engine_code():
                return load(ledger.get(key), NodeRecord, key)
        except KeyNotFoundError as error:
            raise NoResultError(
                f"context.{call}({node!r}): it has no result yet. Ask only for nodes that come before {self.node!r}."
            ) from error

    def _bind(self, ledger: Ledger, payloads: Payloads, definition: graph.Definition, step: Step) -> None:
        self._ledger, self._payloads, self._definition, self._step = ledger, payloads, definition, step
        self.node = step.position.node

    def _stores(self, call: str, key: str) -> tuple[Ledger, Payloads]:
        if self._ledger is None or self._payloads is None:
            raise NoResultError(
                f"context.{call}({key!r}) was called while the flow is being defined. Call it in a modifier or handler."
            )
        return self._ledger, self._payloads


def _key(name: str) -> str:
    return f"data/{escape(name)}"
