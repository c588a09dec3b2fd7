"""A Hypothesis state machine that does anything to a state store and to a dict, and compares the two after every step:

    def test_my_store_behaves_like_a_dict():
        run_state_machine(lambda: MyStore(...))

What depends on several threads or processes is the matter of `contracts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from faasflow.errors import KeyNotFoundError
from faasflow.naming import request_prefix
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Put, StateStore, Version

_requests = st.sampled_from([("flow", "1"), ("flow", "10"), ("flow", "%"), ("fl", "ow/1")])
_keys = st.sampled_from(["a", "a/b", "a/b/c", "ab", "a%", "a_", "b", "é", "😀", "\U0010ffff", "\ud7ff"])
_prefixes = st.sampled_from(["", "a", "a/", "a/b", "b", "%", "_", "none", "é", "\U0010ffff", "\ud7ff"])
_values = st.sampled_from([b"", b"1", b"2", b"\x00\xff", b"x" * 5000])
_versions = st.sampled_from(["now", "past", None])
_ops = st.one_of(
    st.builds(Check, _keys, _versions),
    st.builds(Create, _keys, _values),
    st.builds(Put, _keys, _values),
    st.builds(Delete, _keys),
    st.builds(ListPrefix, _prefixes),
)


class StateStoreMachine(RuleBasedStateMachine):
    """A subclass gives `make_store`, which makes an empty store; it is cleaned up and closed when a run ends."""

    make_store: Callable[[], StateStore]

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.store.init()
        self.values: dict[str, bytes] = {}
        self.versions: dict[str, Version] = {}
        self.past_versions: dict[str, set[Version]] = {}

    def teardown(self) -> None:
        self.store.cleanup()
        self.store.close()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = self.store.read([], [""])
        assert {key: entry.value for key, entry in found.items()} == self.values
        self.see(found)

    @rule(request=_requests, key=_keys, value=_values)
    def set_key(self, request: tuple[str, str], key: str, value: bytes) -> None:
        self.store.configure(*request).set(key, value)
        self.write(request, Put(key, value))

    @rule(request=_requests, key=_keys)
    def delete(self, request: tuple[str, str], key: str) -> None:
        self.store.configure(*request).delete(key)
        self.write(request, Delete(key))

    @rule(request=_requests, key=_keys, old=st.none() | _values, new=_values)
    def update(self, request: tuple[str, str], key: str, old: bytes | None, new: bytes) -> None:
        is_expected = self.values.get(request_prefix(*request) + key) == old
        assert self.store.configure(*request).update(key, old, new) == is_expected
        if is_expected:
            self.write(request, Put(key, new))

    @rule(request=_requests, key=_keys, new=_values)
    def update_what_is_there(self, request: tuple[str, str], key: str, new: bytes) -> None:
        self.update(request, key, self.values.get(request_prefix(*request) + key), new)

    @rule(request=_requests, key=_keys)
    def get(self, request: tuple[str, str], key: str) -> None:
        try:
            value = self.store.configure(*request).get(key)
        except KeyNotFoundError:
            value = None
        assert value == self.values.get(request_prefix(*request) + key)

    @rule(request=_requests, prefix=_prefixes, after=st.just("") | _keys, limit=st.none() | st.integers(0, 4))
    def list_keys(self, request: tuple[str, str], prefix: str, after: str, limit: int | None) -> None:
        found = self.store.configure(*request).list(prefix, after=after, limit=limit)
        expected = [(key, value) for key, value in self.below(request, [prefix]).items() if key > after]
        assert list(found.items()) == expected[:limit]
        names = self.store.configure(*request).keys(prefix, after=after, limit=limit)
        assert list(names) == list(found)

    @rule(request=_requests, keys=st.lists(_keys, max_size=3), prefixes=st.lists(_prefixes, max_size=2))
    def read(self, request: tuple[str, str], keys: Iterable[str], prefixes: Iterable[str]) -> None:
        found = self.store.configure(*request).read(list(keys), list(prefixes))
        view = self.below(request, [""])
        expected = {key: view[key] for key in keys if key in view} | self.below(request, prefixes)
        assert {key: entry.value for key, entry in found.items()} == expected

    @rule(request=_requests)
    def cleanup(self, request: tuple[str, str]) -> None:
        self.store.configure(*request).cleanup()
        for key in self.below(request, [""]):
            self.write(request, Delete(key))

    @rule(request=_requests, ops=st.lists(_ops, max_size=6, unique_by=lambda op: _written_key(op) or repr(op)))
    def transact(self, request: tuple[str, str], ops: Iterable[Op]) -> None:
        ops = [self.with_version(request, op) for op in ops]
        conflicts = {op.key for op in ops if isinstance(op, Check | Create) and not self.is_held(request, op)}
        outcome = self.store.configure(*request).transact(ops)
        assert set(outcome.conflicts) == conflicts
        if not conflicts:
            for op in ops:
                self.write(request, op)
        expected = self.below(request, [op.prefix for op in ops if isinstance(op, ListPrefix) and not conflicts])
        assert [(key, entry.value) for key, entry in outcome.entries.items()] == list(expected.items())
        self.see({request_prefix(*request) + key: entry for key, entry in outcome.entries.items()})

    def write(self, request: tuple[str, str], op: Op) -> None:
        if _written_key(op) is None:
            return
        key = request_prefix(*request) + _written_key(op)
        if key in self.versions:
            self.past_versions.setdefault(key, set()).add(self.versions.pop(key))
        self.values.pop(key, None)
        if isinstance(op, Create | Put):
            self.values[key] = op.value

    def see(self, found: Mapping[str, Entry]) -> None:
        """A version stays until the next write, and never returns after it."""
        for key, entry in found.items():
            assert self.versions.setdefault(key, entry.version) == entry.version
            assert entry.version not in self.past_versions.get(key, ())

    def below(self, request: tuple[str, str], prefixes: Iterable[str]) -> dict[str, bytes]:
        start = request_prefix(*request)
        view = {key.removeprefix(start): value for key, value in self.values.items() if key.startswith(start)}
        return {key: view[key] for key in sorted(view, key=str.encode) if key.startswith(tuple(prefixes))}

    def with_version(self, request: tuple[str, str], op: Op) -> Op:
        if not isinstance(op, Check):
            return op
        key = request_prefix(*request) + op.key
        past = sorted(self.past_versions.get(key, ()), key=repr)
        choices: dict[Version | None, Version | None] = {
            "now": self.versions.get(key),
            "past": past[-1] if past else None,
            None: None,
        }
        return Check(op.key, choices[op.version])

    def is_held(self, request: tuple[str, str], op: Check | Create) -> bool:
        wanted = op.version if isinstance(op, Check) else None
        return self.versions.get(request_prefix(*request) + op.key) == wanted


def run_state_machine(make_store: Callable[[], StateStore], *, max_examples: int = 30, steps: int = 30) -> None:
    """Run `StateStoreMachine` on stores from `make_store`, a new and empty one for each of `max_examples` runs."""
    machine = type("Machine", (StateStoreMachine,), {"make_store": staticmethod(make_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def _written_key(op: Op) -> Any:
    return op.key if isinstance(op, Create | Put | Delete) else None
