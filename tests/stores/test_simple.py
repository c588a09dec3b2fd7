"""A store of five plain methods becomes one with transactions, which neither a death nor a delay anywhere breaks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import pytest

from faasflow.config import Settings
from faasflow.errors import KeyNotFoundError, StoreCorruptError, StoreUnavailableError
from faasflow.ports import Check, Create, Delete, ListPrefix, Op, Put, StateStore
from faasflow.runtime import build_engine, load_handler
from faasflow.stores import SimpleStateStore, simple
from faasflow.stores.memory import MemoryStateStore
from faasflow.stores.simple import HEAD, SimpleStore
from faasflow.testing import FlowTester, InProcessTransport
from faasflow.testing.contracts import StateStoreContract, together
from faasflow.testing.state_machine import run_state_machine

T = TypeVar("T")


class DictStore:
    """The least that a store can be."""

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        self.values = dict(values or {})
        self._lock = Lock()

    def init(self) -> None:
        pass

    def get(self, key: str) -> bytes:
        try:
            return self.values[key]
        except KeyError:
            raise KeyNotFoundError(key) from None

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        with self._lock:
            is_expected = self.values.get(key) == old
            if is_expected:
                self.values[key] = new
            return is_expected

    def delete(self, key: str) -> None:
        with self._lock:
            self.values.pop(key, None)

    def list(self, prefix: str) -> Mapping[str, bytes]:
        with self._lock:
            return {key: value for key, value in self.values.items() if key.startswith(prefix)}


class TestContract(StateStoreContract):
    @pytest.fixture
    def plain(self) -> DictStore:
        return DictStore()

    @pytest.fixture
    def store(self, plain: DictStore) -> Iterator[StateStore]:
        store = SimpleStateStore(plain)
        store.init()
        yield store
        store.cleanup()
        store.close()

    @pytest.fixture
    def peer(self, plain: DictStore) -> StateStore:
        return SimpleStateStore(plain)


def test_it_behaves_like_a_dict() -> None:
    run_state_machine(lambda: SimpleStateStore(DictStore()))


class Watched:
    """Passes every call on to `store`, and calls `watch` before and after it with its method, its arguments and its
    number, from 1."""

    def __init__(self, store: SimpleStore, watch: Callable[[str, tuple[Any, ...], tuple[int, str]], None]) -> None:
        self._store = store
        self._watch = watch
        self._number = 0

    def init(self) -> None:
        self._store.init()

    def get(self, key: str) -> bytes:
        return self._run("get", self._store.get, key)

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        return self._run("update", self._store.update, key, old, new)

    def delete(self, key: str) -> None:
        self._run("delete", self._store.delete, key)

    def list(self, prefix: str) -> Mapping[str, bytes]:
        return self._run("list", self._store.list, prefix)

    def _run(self, name: str, call: Callable[..., T], *arguments: Any) -> T:
        self._number += 1
        number = self._number
        self._watch(name, arguments, (number, "before"))
        result = call(*arguments)
        self._watch(name, arguments, (number, "after"))
        return result


class Death(BaseException):
    """The process ends."""


Moment = tuple[int, str]
Task = Callable[[StateStore], Any]


def at(moment: Moment, act: Callable[[], None]) -> Callable[[str, tuple[Any, ...], Moment], None]:
    def watch(name: str, arguments: tuple[Any, ...], now: Moment) -> None:
        if now == moment:
            act()

    return watch


def die() -> None:
    raise Death


def fail() -> None:
    raise StoreUnavailableError("Injected fault.")


OPS: list[Op] = [Put("a", b"2"), Delete("b"), Create("c", b"2"), ListPrefix("")]
BEFORE = {"a": b"1", "b": b"1", "d": b"1"}
AFTER = {"a": b"2", "c": b"2", "d": b"1"}


def settled() -> DictStore:
    """A store with nothing to tidy up."""
    plain = DictStore()
    SimpleStateStore(plain).transact([Create(key, value) for key, value in BEFORE.items()])
    return plain


def left_behind() -> DictStore:
    """The same, but what wrote it died at its commit, and one that would have written something else before."""
    plain = DictStore()
    SimpleStateStore(plain).transact([Create("gone", b""), Create("b", b"0"), Create("c", b"0")])
    kill(plain, lambda store: store.transact([Put("a", b"lost"), Put("lost", b"")]), (5, "after"))
    ops = [*(Put(key, value) for key, value in BEFORE.items()), Delete("gone"), Delete("c")]
    kill(plain, lambda store: store.transact(ops), (10, "after"))
    return plain


STARTS = (settled, left_behind)


def kill(plain: DictStore, task: Task, moment: Moment) -> None:
    with pytest.raises(Death):
        task(SimpleStateStore(Watched(plain, at(moment, die))))


def calls_of(task: Task, start: Callable[[], DictStore] = settled) -> list[str]:
    """The methods of the plain store that `task` calls."""
    calls: list[str] = []

    def watch(name: str, arguments: tuple[Any, ...], now: Moment) -> None:
        calls.extend([name] * (now[1] == "before"))

    task(SimpleStateStore(Watched(start(), watch)))
    return calls


def moments(task: Task) -> list[Any]:
    """Each way to start, with each moment before and after every call that `task` makes."""
    return [
        pytest.param(start, (number, when), id=f"{start.__name__}-{when}-{number}-{name}")
        for start in STARTS
        for number, name in enumerate(calls_of(task, start), 1)
        for when in ("before", "after")
    ]


def transact(store: StateStore) -> Any:
    return store.transact(OPS)


def test_what_a_dead_transaction_left_is_what_the_test_takes_it_for() -> None:
    plain = left_behind()

    assert SimpleStateStore(plain).list("") == BEFORE
    assert any(raw.startswith(b"-") for key, raw in plain.values.items() if key.startswith("lost@"))
    assert b"@" in plain.values[HEAD]


@pytest.mark.parametrize(("start", "moment"), moments(transact))
def test_of_a_transaction_that_dies_at_any_moment_all_is_there_or_nothing(
    start: Callable[[], DictStore], moment: Moment
) -> None:
    plain = start()
    kill(plain, transact, moment)
    other = SimpleStateStore(plain)

    seen = other.list("")
    assert seen in (BEFORE, AFTER)
    assert other.transact([Put("a", b"3"), ListPrefix("")]).committed
    assert other.list("") == seen | {"a": b"3"}
    assert SimpleStateStore(plain).list("") == seen | {"a": b"3"}


@pytest.mark.parametrize(("start", "moment"), moments(transact))
def test_nothing_of_a_dead_transaction_stays_behind_a_cleanup(start: Callable[[], DictStore], moment: Moment) -> None:
    plain = start()
    kill(plain, transact, moment)
    SimpleStateStore(plain).cleanup()

    assert set(plain.values) == {HEAD}


def test_what_a_dead_transaction_left_alone_in_the_store_goes_with_a_cleanup() -> None:
    plain = DictStore()
    kill(plain, transact, (6, "after"))
    assert len(plain.values) == 3
    SimpleStateStore(plain).cleanup()

    assert set(plain.values) == {HEAD}


@pytest.mark.parametrize(("start", "moment"), moments(transact))
def test_a_transaction_fails_with_an_unknown_outcome_only_at_its_commit(
    start: Callable[[], DictStore], moment: Moment
) -> None:
    plain, is_commit = start(), False

    def watch(name: str, arguments: tuple[Any, ...], now: Moment) -> None:
        nonlocal is_commit
        if now == moment:
            is_commit = name == "update" and arguments[0] == HEAD and b"@" in arguments[2] and now[1] == "after"
            fail()

    try:
        has_committed = SimpleStateStore(Watched(plain, watch)).transact(OPS).committed
    except StoreUnavailableError:
        has_committed = is_commit

    assert SimpleStateStore(plain).list("") == (AFTER if has_committed else BEFORE)


def write_the_same_keys(store: StateStore) -> None:
    store.transact([Put(key, b"9") for key in "abcd"])


def remove_everything(store: StateStore) -> None:
    store.cleanup()


def make_everything_again(store: StateStore) -> None:
    store.cleanup()
    write_the_same_keys(store)


def write_another_key(store: StateStore) -> None:
    store.set("d", b"9")


def write_a_key_and_take_it_back(store: StateStore) -> None:
    store.set("c", b"9")
    store.delete("c")
    store.update("a", b"1", b"9")
    store.update("a", b"9", b"1")


MEANWHILE = (
    *(write_the_same_keys, remove_everything, make_everything_again, write_another_key),
    write_a_key_and_take_it_back,
)


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize(("start", "moment"), moments(transact))
def test_a_transaction_that_stalls_at_any_moment_overwrites_nothing(
    start: Callable[[], DictStore], moment: Moment, meanwhile: Task
) -> None:
    plain, order = start(), list[Task]()
    lost = {name for name in plain.values if name.startswith("lost@")}

    def overtake() -> None:
        other = SimpleStateStore(plain)
        order.extend([transact, meanwhile] if other.list("") == AFTER else [meanwhile, transact])
        meanwhile(other)

    stalled = SimpleStateStore(Watched(plain, at(moment, overtake)))
    outcome = transact(stalled)

    model = model_of(BEFORE)
    outcomes = {task: task(model) for task in order}
    assert outcome.conflicts == outcomes[transact].conflicts
    assert values_of(outcome.entries) == values_of(outcomes[transact].entries)
    assert SimpleStateStore(plain).list("") == model.list("")
    assert {name for name, raw in plain.values.items() if raw.startswith(b"-")} <= lost


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_call_that_takes_effect_again_long_after_changes_nothing(meanwhile: Task) -> None:
    plain, calls = left_behind(), list[tuple[str, tuple[Any, ...]]]()

    def watch(name: str, arguments: tuple[Any, ...], now: Moment) -> None:
        if now[1] == "before" and name in ("update", "delete"):
            calls.append((name, arguments))

    watched = SimpleStateStore(Watched(plain, watch))
    transact(watched)
    meanwhile(watched)
    meanwhile(watched)
    expected = SimpleStateStore(plain).read([], [""])
    for name, arguments in calls:
        copy = DictStore(plain.values)
        store = SimpleStateStore(copy)
        getattr(copy, name)(*arguments)

        assert store.read([], [""]) == expected
        write_the_same_keys(store)
        assert store.list("") == values_of(expected) | dict.fromkeys("abcd", b"9")


def read(store: StateStore) -> Any:
    return store.read(["a", "b"], ["c", "d"])


@pytest.mark.parametrize(("start", "moment"), moments(read))
def test_a_read_that_stalls_at_any_moment_is_of_one_moment(start: Callable[[], DictStore], moment: Moment) -> None:
    plain = start()
    found = read(SimpleStateStore(Watched(plain, at(moment, lambda: transact(SimpleStateStore(plain))))))

    assert values_of(found) in (BEFORE, AFTER)


@pytest.mark.parametrize(("start", "moment"), moments(read))
def test_a_read_while_a_transaction_stands_still_waits_for_nobody(
    start: Callable[[], DictStore], moment: Moment
) -> None:
    plain = start()
    kill(plain, read, moment)

    assert SimpleStateStore(plain).list("") == BEFORE
    assert calls_of(read, lambda: plain) == ["get", "list", "list", "list", "list", "get"]


def test_money_moves_between_accounts_and_no_death_loses_any() -> None:
    plain, chance = DictStore(), random.Random(7)
    names = [f"account/{number}" for number in range(4)]
    SimpleStateStore(plain).transact([Create(name, b"100") for name in names])

    def move(store: StateStore, source: str, target: str) -> None:
        found = store.read([source, target])
        (left, right) = (int(found[name].value) for name in (source, target))
        checks = [Check(name, found[name].version) for name in (source, target)]
        store.transact([*checks, Put(source, b"%d" % (left - 1)), Put(target, b"%d" % (right + 1))])

    def work(number: int) -> set[int]:
        sums = set()
        for _ in range(60):
            store = SimpleStateStore(Watched(plain, at((chance.randrange(1, 25), "after"), die)))
            with suppress(Death):
                move(store, *chance.sample(names, 2))
            sums.add(sum(int(entry.value) for entry in SimpleStateStore(plain).read([], ["account/"]).values()))
        return sums

    seen = together(work, range(4))

    assert set().union(*seen) == {400}
    assert len(set(SimpleStateStore(plain).list("").values())) > 1


def test_a_counter_is_exact_with_a_store_for_every_thread() -> None:
    plain = DictStore()
    SimpleStateStore(plain).set("counter", b"0")

    def count(_: int) -> None:
        store, done = SimpleStateStore(plain), 0
        while done < 20:
            old = store.get("counter")
            done += store.update("counter", old, b"%d" % (int(old) + 1))

    together(count, range(8))

    assert SimpleStateStore(plain).get("counter") == b"160"
    assert len(plain.values) == 2


@pytest.mark.parametrize(
    ("task", "calls"),
    [
        (lambda store: store.get("a"), ["get", "list", "get"]),
        (lambda store: store.list(""), ["get", "list", "get"]),
        (lambda store: store.set("new", b""), ["get", "list", *["update"] * 4]),
        (lambda store: store.set("a", b""), ["get", "list", *["update"] * 3, "delete", "update"]),
        (lambda store: store.transact([Create("a", b"")]), ["get", "list", "get"]),
        (
            lambda store: store.transact([*OPS, ListPrefix("a")]),
            ["get", "list", *["update"] * 5, *["delete"] * 2, "update"],
        ),
    ],
    ids=["get", "list", "set a new key", "set", "conflict", "transaction"],
)
def test_what_is_asked_of_the_plain_store(task: Task, calls: list[str]) -> None:
    assert calls_of(task) == calls


def test_a_store_whose_update_never_writes_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(DictStore):
        def update(self, key: str, old: bytes | None, new: bytes) -> bool:
            return key != HEAD or (old is None and super().update(key, old, new))

    monkeypatch.setattr(simple, "TRIES", 3)
    store = SimpleStateStore(Refuses())

    with pytest.raises(StoreUnavailableError, match="3 times") as caught:
        store.set("key", b"")
    assert "update() is False" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"format": 2, "id": "1", "born": [], "gone": []}'])
def test_a_head_of_somebody_else_is_refused_and_kept(raw: bytes) -> None:
    plain = DictStore()
    plain.values[HEAD] = raw

    with pytest.raises(StoreCorruptError, match="was not written by"):
        SimpleStateStore(plain).set("key", b"")
    assert plain.values == {HEAD: raw}


def test_a_record_of_somebody_else_is_refused() -> None:
    plain = settled()
    plain.values["key@1"] = b"?"

    with pytest.raises(StoreCorruptError, match="'key@1' was not written by"):
        SimpleStateStore(plain).get("key")


def test_keys_of_somebody_else_are_not_seen() -> None:
    plain = settled()
    plain.values |= {"a": b"own", "@": b"own", "faasflow/%other": b"own"}

    assert SimpleStateStore(plain).list("") == BEFORE


def test_a_store_that_can_be_closed_is_closed() -> None:
    class Closes(DictStore):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    plain = Closes()
    SimpleStateStore(plain).close()

    assert plain.is_closed


def define(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("split").apply("split")
    branch = dag.foreach_branch("each", lambda data: {word: word for word in data.decode().split()}, aggregator=line)
    branch.node("shout").modify(lambda data: data.upper())
    branch.node("greet").apply("greet")
    branch.edge("shout", "greet")
    dag.node("end").modify(lambda data: data + b".")
    dag.edge("split", "each")
    dag.edge("each", "end")


def line(results: dict[str, bytes]) -> bytes:
    return b", ".join(results[key] for key in sorted(results))


def greet(transport: InProcessTransport | FlowTester) -> None:
    transport.function("split", lambda body: body.replace(b",", b" "))
    transport.function("greet", lambda body: b"hello " + body)


class StoreOfTheOriginal(DictStore):
    """The original's six methods, with the two that it lacked."""

    def configure(self, flow: str, request_id: str) -> None:
        raise AssertionError("This changes what the store is about.")

    def set(self, key: str, value: bytes) -> None:
        raise AssertionError("This overwrites what another has written.")

    def cleanup(self) -> None:
        raise AssertionError("This removes what another still needs.")


@pytest.mark.parametrize("own", [DictStore, StoreOfTheOriginal])
def test_a_flow_with_branches_runs_on_it(own: type[DictStore]) -> None:
    plain = own()
    tester = FlowTester(define, state=SimpleStateStore(plain))
    greet(tester)

    assert tester.run(b"a,b,c").result == b"hello A, hello B, hello C."
    assert len(tester.calls("greet")) == 3
    assert any("each" in key for key in plain.values)


HANDLER = """
from faasflow.stores import SimpleStateStore
from tests.stores.test_simple import DictStore, define

plain = DictStore()

def override_state_store():
    return SimpleStateStore(plain)
"""


def test_a_handler_brings_it_along(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text(HANDLER)
    handler, transport = load_handler(tmp_path / "handler.py"), InProcessTransport()
    greet(transport)
    settings = Settings(flow="flow", state_store="memory:", data_store="memory:")
    first = build_engine(handler, settings, transport=transport)
    second = build_engine(handler, settings, transport=transport)
    first.start(b"a,b,c", request_id="r1")
    while transport.pending:
        message = transport.pending.popleft()
        second.deliver(message.request_id, message.body)

    assert first.answer("r1").body == b"hello A, hello B, hello C."


def model_of(values: Mapping[str, bytes]) -> MemoryStateStore:
    model = MemoryStateStore()
    model.transact([Create(key, value) for key, value in values.items()])
    return model


def values_of(entries: Mapping[str, Any]) -> dict[str, bytes]:
    return {key: entry.value for key, entry in entries.items()}
