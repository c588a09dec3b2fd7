"""What every store must do, as pytest classes: subclass one, give it a fixture `store`, and its claims run on yours.

    class TestMyStore(StateStoreContract):
        @pytest.fixture
        def store(self):
            store = MyStore(...)
            store.init()
            yield store
            store.cleanup()
            store.close()

The store is empty when a test begins. Where a store has more than one way in (a second connection, a second process),
the fixture `peer` opens the same store once more; by default it is `store` itself. To see the values behind a failed
claim, put `pytest.register_assert_rewrite("faasflow.testing.contracts")` into `conftest.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier
from typing import Any, TypeVar

import pytest

from faasflow.errors import KeyNotFoundError, StoreError, ValueTooLargeError
from faasflow.naming import request_prefix
from faasflow.ports import Check, Create, DataStore, Delete, Entry, ListPrefix, Op, Put, StateStore

A = TypeVar("A")
T = TypeVar("T")

BINARY = bytes(range(256)) + b"\x00\xff\xfe\r\n"
LARGE = BINARY * 1_569  # a little over 400 KB
HOSTILE_IDS = [
    *("1", "10", "1/0", "1%2f0", "1%2F0", "..", ".", "...", "/", "//", "%", "%2f", "", " ", "_", "*", "?", "\\"),
    *("~", "a", "A", "é", "e\u0301", "😀", "\U0010ffff", "\u0000", "a\nb", "x" * 200, "x" * 201, "x" * 200 + "/"),
]
HOSTILE_KEYS = [
    *("%", "%%", "_", "a", "a%", "a_", "ab", "a/", "a//b", "A", "[a]", "*", "?", "é", "😀", "\ud7ff", "\U0010ffff"),
]


def together(task: Callable[[A], T], arguments: Iterable[A], *, timeout: float = 60.0) -> list[T]:
    """Run `task` on every argument, each in a thread, all starting at the same moment; what they return, in order."""
    cases = list(arguments)
    barrier = Barrier(len(cases))

    def start(argument: A) -> T:
        barrier.wait(timeout)
        return task(argument)

    with _frequent_switches(), ThreadPoolExecutor(len(cases)) as pool:
        return list(pool.map(start, cases, timeout=timeout))


@contextmanager
def _frequent_switches() -> Iterator[None]:
    # Else a thread is done before the next one runs, and no two ever meet.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


class _CommonContract:
    """What state and data stores have in common."""

    @pytest.fixture
    def peer(self, store: Any) -> Any:
        """The same store, opened once more where that is possible."""
        return store

    def test_a_value_is_read_back_as_it_was_written(self, store: Any) -> None:
        store.set("key", b"value")

        assert store.get("key") == b"value"

    def test_an_acknowledged_write_is_seen_by_every_reader(self, store: Any, peer: Any) -> None:
        for number in range(20):
            store.set("key", b"%d" % number)

            assert peer.get("key") == b"%d" % number

    def test_set_replaces_what_was_there(self, store: Any) -> None:
        store.set("key", b"a longer value than the next")
        store.set("key", b"next")

        assert store.get("key") == b"next"

    def test_a_missing_key_has_an_error_of_its_own(self, store: Any) -> None:
        with pytest.raises(KeyNotFoundError) as caught:
            store.get("missing")

        assert caught.value.key.endswith("missing")

    def test_an_empty_value_is_not_a_missing_key(self, store: Any) -> None:
        store.set("key", b"")

        assert store.get("key") == b""
        assert list(store.list("")) == ["key"]

    @pytest.mark.parametrize("value", [BINARY, b"\x00", b"\xff" * 7, LARGE], ids=["bytes", "nul", "not-utf8", "large"])
    def test_values_of_any_bytes_come_back_unchanged(self, store: Any, value: bytes) -> None:
        store.set("key", value)

        assert store.get("key") == value

    def test_a_deleted_key_is_gone(self, store: Any, peer: Any) -> None:
        store.set("key", b"value")
        store.delete("key")

        assert list(peer.list("")) == []
        with pytest.raises(KeyNotFoundError):
            peer.get("key")

    def test_deleting_a_missing_key_is_fine(self, store: Any) -> None:
        store.set("key", b"value")
        store.delete("missing")
        store.delete("key")
        store.delete("key")

        assert list(store.list("")) == []

    def test_list_finds_only_what_starts_with_the_prefix(self, store: Any) -> None:
        for key in ("node/a", "node/b", "node", "nodes/c", "nod", "other/node/a"):
            store.set(key, b"")

        assert list(store.list("node/")) == ["node/a", "node/b"]
        assert list(store.list("node")) == ["node", "node/a", "node/b", "nodes/c"]

    def test_list_of_nothing_is_empty(self, store: Any) -> None:
        store.set("a", b"")

        assert list(store.list("b")) == []
        assert list(store.list("a/")) == []

    def test_list_is_in_the_order_of_utf8_bytes(self, store: Any) -> None:
        for key in reversed(HOSTILE_KEYS):
            store.set(key, b"")

        assert list(store.list("")) == sorted(HOSTILE_KEYS, key=str.encode)

    @pytest.mark.parametrize("prefix", HOSTILE_KEYS)
    def test_no_character_of_a_prefix_has_a_meaning_of_its_own(self, store: Any, prefix: str) -> None:
        for key in HOSTILE_KEYS:
            store.set(key, b"")
            store.set(key + "\U0010ffff", b"")

        expected = {key for key in HOSTILE_KEYS if key.startswith(prefix)}
        assert set(store.list(prefix)) == expected | {key + "\U0010ffff" for key in expected}

    def test_views_of_any_two_requests_share_no_key(self, store: Any) -> None:
        views = [store.configure("flow", request_id) for request_id in HOSTILE_IDS]
        for number, view in enumerate(views):
            view.set("key", b"%d" % number)

        assert [view.get("key") for view in views] == [b"%d" % number for number in range(len(views))]
        assert all(list(view.list("")) == ["key"] for view in views)

    def test_views_of_any_two_flows_share_no_key(self, store: Any) -> None:
        names = [*((name, "1") for name in HOSTILE_IDS), ("a/b", "c"), ("a", "b/c"), ("a", "b"), ("", "a"), ("a", "")]
        views = [store.configure(*name) for name in names]
        for number, view in enumerate(views):
            view.set("key", b"%d" % number)

        assert [view.get("key") for view in views] == [b"%d" % number for number in range(len(views))]

    def test_cleanup_removes_the_keys_of_its_view_and_no_others(self, store: Any) -> None:
        views = {request_id: store.configure("flow", request_id) for request_id in HOSTILE_IDS}
        for view in views.values():
            view.set("key", b"")
            view.set("folder/key", b"")
        left = list(views)
        while left:
            views[left.pop()].cleanup()

            having = [request_id for request_id, view in views.items() if list(view.list("")) == ["folder/key", "key"]]
            assert having == left

        assert list(store.list("")) == []

    def test_cleanup_of_an_empty_view_is_fine(self, store: Any) -> None:
        store.configure("flow", "1").cleanup()
        store.configure("flow", "1").cleanup()

        assert list(store.list("")) == []

    def test_cleanup_removes_any_number_of_keys(self, store: Any) -> None:
        view = store.configure("flow", "1")
        for number in range(300):
            view.set(f"node/{number}", b"value")
        view.cleanup()

        assert list(view.list("")) == []

    def test_a_view_is_the_part_of_the_store_below_its_prefix(self, store: Any) -> None:
        store.configure("flow/a", "1").set("node/x", b"value")

        assert list(store.list("")) == [request_prefix("flow/a", "1") + "node/x"]
        assert store.get("faasflow/flow%2Fa/1/node/x") == b"value"

    def test_two_views_of_one_request_are_the_same(self, store: Any, peer: Any) -> None:
        store.configure("flow", "1").set("key", b"value")

        assert peer.configure("flow", "1").get("key") == b"value"

    def test_configure_changes_nothing_in_the_store_and_its_other_views(self, store: Any) -> None:
        first = store.configure("flow", "1")
        first.set("key", b"first")
        store.configure("flow", "2").set("key", b"second")
        first.configure("flow", "3").set("key", b"third")
        store.set("key", b"of the store")

        assert first.get("key") == b"first"
        assert list(first.list("")) == ["key"]
        assert store.get("key") == b"of the store"

    def test_init_again_changes_nothing(self, store: Any) -> None:
        store.set("key", b"value")
        store.init()
        store.configure("flow", "1").init()

        assert store.get("key") == b"value"

    def test_closing_again_is_fine(self, store: Any) -> None:
        view = store.configure("flow", "1")
        view.set("key", b"value")
        view.close()
        store.close()
        store.close()
        view.close()

    def test_threads_may_share_a_store(self, store: Any) -> None:
        def work(name: int) -> list[bytes]:
            view = store.configure("flow", str(name))
            for number in range(20):
                view.set(f"key/{number}", b"%d %d" % (name, number))
            return [view.get(key) for key in view.list("key/")]

        found = together(work, range(6))

        assert [sorted(values) for values in found] == [
            sorted(b"%d %d" % (name, number) for number in range(20)) for name in range(6)
        ]

    def test_a_reader_never_sees_half_a_write(self, store: Any, peer: Any) -> None:
        values = [bytes([letter]) * 100_000 for letter in b"abc"]
        store.set("key", values[0])

        def write_or_look(is_writer: bool) -> set[bytes]:
            if not is_writer:
                return {peer.get("key") for _ in range(30)}
            for value in values * 10:
                store.set("key", value)
            return set()

        seen = together(write_or_look, [True, False, False, False])

        assert set().union(*seen) <= set(values)


class DataStoreContract(_CommonContract):
    """The contract of `DataStore`. Give it a `store` fixture."""

    def test_a_value_of_many_megabytes_comes_back_whole(self, store: DataStore) -> None:
        value = BINARY * 40_000  # some 10 MB
        store.set("key", value)

        assert store.get("key") == value


class StateStoreContract(_CommonContract):
    """The contract of `StateStore`. Give it a `store` fixture."""

    def test_update_creates_a_key_that_must_not_exist(self, store: StateStore) -> None:
        assert store.update("key", None, b"first")
        assert not store.update("key", None, b"second")

        assert store.get("key") == b"first"

    def test_update_replaces_only_what_it_was_told(self, store: StateStore) -> None:
        store.set("key", b"old")

        assert not store.update("key", b"something else", b"new")
        assert not store.update("key", b"", b"new")
        assert store.get("key") == b"old"
        assert store.update("key", b"old", b"new")
        assert store.get("key") == b"new"

    def test_update_of_a_missing_key_writes_nothing(self, store: StateStore) -> None:
        assert not store.update("key", b"old", b"new")
        assert not store.update("key", b"", b"new")

        assert store.read(["key"]) == {}

    def test_update_tells_an_empty_value_from_a_missing_key(self, store: StateStore) -> None:
        store.set("key", b"")

        assert not store.update("key", None, b"new")
        assert store.update("key", b"", b"new")
        assert store.get("key") == b"new"

    def test_update_of_a_large_value_compares_all_of_it(self, store: StateStore) -> None:
        large = LARGE[:300_000]
        store.set("key", large + b"a")

        assert not store.update("key", large + b"b", b"new")
        assert store.update("key", large + b"a", b"new")

    def test_update_may_write_the_value_it_replaces(self, store: StateStore) -> None:
        store.set("key", b"same")

        assert store.update("key", b"same", b"same")
        assert store.get("key") == b"same"

    def test_one_of_many_creates_wins(self, store: StateStore, peer: StateStore) -> None:
        def create(name: int) -> list[bool]:
            side = (store, peer)[name % 2]
            return [side.update(f"key/{number}", None, b"%d" % name) for number in range(20)]

        won = together(create, range(8))

        for number in range(20):
            winners = [name for name in range(8) if won[name][number]]
            assert winners == [int(store.get(f"key/{number}"))]

    def test_a_counter_of_compare_and_set_is_exact(self, store: StateStore, peer: StateStore) -> None:
        store.set("counter", b"0")

        def count(side: StateStore) -> None:
            done = 0
            while done < 15:
                old = side.get("counter")
                done += side.update("counter", old, b"%d" % (int(old) + 1))

        together(count, (store, peer) * 3)

        assert store.get("counter") == b"90"

    def test_list_gives_the_values(self, store: StateStore) -> None:
        store.set("b", b"2")
        store.set("a", BINARY)

        assert store.list("") == {"a": BINARY, "b": b"2"}

    def test_list_begins_behind_after(self, store: StateStore) -> None:
        for key in ("a", "k/1", "k/2", "k/3", "z"):
            store.set(key, b"")

        assert list(store.list("k/", after="k/1")) == ["k/2", "k/3"]
        assert list(store.list("k/", after="k/11")) == ["k/2", "k/3"]
        assert list(store.list("k/", after="k/3")) == []
        assert list(store.list("k/", after="z")) == []
        assert list(store.list("k/", after="a")) == ["k/1", "k/2", "k/3"]
        assert list(store.list("k/", after="k/")) == ["k/1", "k/2", "k/3"]

    def test_list_gives_at_most_limit_keys(self, store: StateStore) -> None:
        for key in "abc":
            store.set(key, b"")

        assert [list(store.list("", limit=limit)) for limit in range(5)] == [[], ["a"], ["a", "b"], [*"abc"], [*"abc"]]

    def test_paging_gives_every_key_once(self, store: StateStore) -> None:
        view = store.configure("flow", "1")
        store.configure("flow", "0").set("k/0", b"")
        store.configure("flow", "10").set("k/0", b"")
        for key in HOSTILE_KEYS:
            view.set("k/" + key, b"")
        pages = [view.list("k/", limit=4)]
        while pages[-1]:
            pages.append(view.list("k/", after=list(pages[-1])[-1], limit=4))

        expected = sorted(("k/" + key for key in HOSTILE_KEYS), key=str.encode)
        assert [key for page in pages for key in page] == expected

    def test_keys_are_those_of_list(self, store: StateStore) -> None:
        for key in reversed(HOSTILE_KEYS):
            store.set(key, BINARY)

        for prefix in ("", "a", "a/", "é", "\U0010ffff", "none"):
            for after in ("", "a", "a%", "\ud7ff"):
                for limit in (None, 0, 1, 3, 100):
                    listed = list(store.list(prefix, after=after, limit=limit))
                    assert list(store.keys(prefix, after=after, limit=limit)) == listed

    def test_keys_of_a_view_are_its_own_without_its_prefix(self, store: StateStore) -> None:
        view = store.configure("flow", "1")
        store.configure("flow", "10").set("k/0", b"of another")
        for key in ("a", "k/3", "k/1", "k/2"):
            view.set(key, b"")

        assert list(view.keys("")) == ["a", "k/1", "k/2", "k/3"]
        assert list(view.keys("k/", after="k/1", limit=1)) == ["k/2"]
        assert list(view.keys("none/")) == []

    def test_keys_see_what_was_acknowledged(self, store: StateStore, peer: StateStore) -> None:
        for number in range(20):
            store.transact([Create(f"k/{number:02}", b""), Delete(f"k/{number - 1:02}")])

            assert list(peer.keys("k/")) == [f"k/{number:02}"]

    def test_keys_are_of_one_moment(self, store: StateStore, peer: StateStore) -> None:
        names = [f"k/{number:02}" for number in range(40)]

        def write_or_look(is_writer: bool) -> list[int]:
            if not is_writer:
                return [len(peer.keys("k/")) for _ in range(60)]
            for _ in range(30):
                store.transact([Create(name, b"") for name in names])
                store.transact([Delete(name) for name in names])
            return []

        seen = together(write_or_look, [True, False, False])

        assert set().union(*seen) <= {0, len(names)}

    def test_read_gives_keys_and_prefixes_and_leaves_missing_ones_out(self, store: StateStore) -> None:
        for key in ("a", "n/1", "n/2", "n", "z"):
            store.set(key, key.encode())

        found = store.read(["a", "missing", "n/1"], ["n/", "none/"])
        assert {key: entry.value for key, entry in found.items()} == {"a": b"a", "n/1": b"n/1", "n/2": b"n/2"}

    def test_read_of_nothing_is_empty(self, store: StateStore) -> None:
        store.set("a", b"")

        assert store.read([]) == {}
        assert store.read(["missing"], ["none/"]) == {}

    def test_a_version_changes_with_every_write_and_only_then(self, store: StateStore) -> None:
        versions = []
        for _ in range(3):
            store.set("key", b"same")
            store.set("other", b"same")
            versions += [_version(store, "key"), _version(store, "key")]

        assert versions[0::2] == versions[1::2]
        assert len(set(versions)) == 3

    def test_a_version_does_not_return_when_a_key_is_made_again(self, store: StateStore) -> None:
        seen = []
        for _ in range(5):
            store.update("key", None, b"same")
            seen.append(_version(store, "key"))
            store.delete("key")

        assert len(set(seen)) == 5

    def test_a_version_does_not_return_after_a_cleanup(self, store: StateStore) -> None:
        view = store.configure("flow", "1")
        view.set("key", b"same")
        version = _version(view, "key")
        view.cleanup()
        view.set("key", b"same")

        assert view.transact([Check("key", version), Put("key", b"late")]).conflicts == ("key",)

    def test_versions_are_the_same_however_they_are_read(self, store: StateStore, peer: StateStore) -> None:
        store.set("n/1", b"value")
        version = _version(store, "n/1")

        assert store.read([], ["n/"]) == peer.read(["n/1"]) == {"n/1": Entry(b"value", version)}
        assert store.transact([ListPrefix("n/")]).entries == {"n/1": Entry(b"value", version)}

    def test_a_read_is_one_moment(self, store: StateStore, peer: StateStore) -> None:
        def write_or_look(is_writer: bool) -> list[set[bytes]]:
            if not is_writer:
                return [{entry.value for entry in peer.read(["a"], ["n/"]).values()} for _ in range(60)]
            for number in range(60):
                store.transact([Put(key, b"%d" % number) for key in ("a", "n/1", "n/2")])
            return []

        seen = together(write_or_look, [True, False, False])

        assert all(len(values) <= 1 for reader in seen for values in reader)

    def test_a_transaction_of_nothing_commits(self, store: StateStore) -> None:
        assert store.transact([]).committed

    def test_a_transaction_writes_all_its_keys(self, store: StateStore, peer: StateStore) -> None:
        store.set("gone", b"")
        outcome = store.transact([Create("new", b"1"), Put("put", b"2"), Delete("gone"), Delete("missing")])

        assert outcome.committed
        assert outcome.entries == {}
        assert peer.list("") == {"new": b"1", "put": b"2"}

    @pytest.mark.parametrize("at", range(5))
    def test_one_conflict_anywhere_and_nothing_is_written(self, store: StateStore, at: int) -> None:
        store.set("there", b"old")
        store.set("gone", b"")
        ops: list[Op] = [Create("new", b"1"), Put("put", b"2"), Delete("gone"), ListPrefix("")]
        ops.insert(at, Create("there", b"new"))
        outcome = store.transact(ops)

        assert not outcome.committed
        assert outcome.conflicts == ("there",)
        assert outcome.entries == {}
        assert store.list("") == {"there": b"old", "gone": b""}

    def test_conflicts_name_every_key_that_did_not_hold(self, store: StateStore) -> None:
        store.set("a", b"")
        store.set("b", b"")
        version = _version(store, "a")
        outcome = store.transact(
            [Create("a", b"x"), Check("b", version), Check("missing", version), Check("none", None), Create("c", b"x")]
        )

        assert set(outcome.conflicts) == {"a", "b", "missing"}

    def test_a_check_holds_at_the_version_that_was_read(self, store: StateStore) -> None:
        store.set("key", b"1")
        version = _version(store, "key")

        assert store.transact([Check("key", version), Put("key", b"2")]).committed
        assert store.transact([Check("key", version), Put("key", b"3")]).conflicts == ("key",)
        assert store.get("key") == b"2"

    def test_a_check_of_a_deleted_key_does_not_hold(self, store: StateStore) -> None:
        store.set("key", b"1")
        version = _version(store, "key")
        store.delete("key")

        assert store.transact([Check("key", version), Put("key", b"2")]).conflicts == ("key",)

    def test_a_check_for_no_version_holds_while_the_key_is_missing(self, store: StateStore) -> None:
        assert store.transact([Check("key", None), Put("key", b"")]).committed
        assert store.transact([Check("key", None), Put("key", b"2")]).conflicts == ("key",)
        assert store.get("key") == b""

    def test_a_check_guards_the_writes_of_other_keys(self, store: StateStore) -> None:
        store.set("request", b"running")
        version = _version(store, "request")
        store.set("request", b"stopped")

        assert store.transact([Check("request", version), Create("node", b"")]).conflicts == ("request",)
        assert store.read(["node"]) == {}

    def test_a_check_guards_a_delete(self, store: StateStore) -> None:
        store.set("key", b"1")
        version = _version(store, "key")
        store.set("key", b"2")

        assert store.transact([Check("key", version), Delete("key")]).conflicts == ("key",)
        assert store.transact([Check("key", _version(store, "key")), Delete("key")]).committed
        assert store.read(["key"]) == {}

    def test_a_key_moves_in_one_transaction(self, store: StateStore) -> None:
        store.set("due/1", b"timer")
        version = _version(store, "due/1")
        move: list[Op] = [Check("due/1", version), Delete("due/1"), Put("due/2", b"timer"), ListPrefix("due/")]

        assert list(store.transact(move).entries) == ["due/2"]
        assert store.list("") == {"due/2": b"timer"}
        assert store.transact(move).conflicts == ("due/1",)
        assert store.list("") == {"due/2": b"timer"}

    def test_a_key_that_changed_does_not_move(self, store: StateStore) -> None:
        store.set("due/1", b"old")
        version = _version(store, "due/1")
        store.set("due/1", b"new")

        assert store.transact([Delete("due/1"), Put("due/2", b"old"), Check("due/1", version)]).conflicts == ("due/1",)
        assert store.list("") == {"due/1": b"new"}

    def test_of_many_that_move_a_key_one_does(self, store: StateStore, peer: StateStore) -> None:
        def move(number: int, name: int) -> bool:
            side = (store, peer)[name % 2]
            held = side.read([], [f"due/{number}/"])
            key, entry = next(iter(held.items()))
            if key != f"due/{number}/first":
                return False
            moved = Put(f"due/{number}/{name}", b"")
            return side.transact([Check(key, entry.version), Delete(key), moved]).committed

        for number in range(10):
            store.set(f"due/{number}/first", b"")
            won = together(partial(move, number), range(6))

            assert won.count(True) == 1
            assert list(store.keys(f"due/{number}/")) == [f"due/{number}/{won.index(True)}"]

    def test_a_missing_key_guards_the_creation_of_another(self, store: StateStore) -> None:
        assert store.transact([Check("lease", None), Create("node/1", b"")]).committed
        store.set("lease", b"")

        assert store.transact([Check("lease", None), Create("node/2", b"")]).conflicts == ("lease",)
        assert store.transact([Create("node/1", b""), Check("other", None)]).conflicts == ("node/1",)
        assert set(store.list("")) == {"lease", "node/1"}

    def test_deleting_a_missing_key_in_a_transaction_is_no_conflict(self, store: StateStore) -> None:
        outcome = store.transact([Delete("missing"), Check("gone", None), Delete("gone"), Create("key", b"value")])

        assert outcome.committed
        assert store.transact([Delete("missing")]).committed
        assert store.list("") == {"key": b"value"}

    def test_checks_are_of_the_state_before_wherever_they_stand(self, store: StateStore) -> None:
        store.set("key", b"1")
        version = _version(store, "key")

        assert store.transact([Put("key", b"2"), Check("key", version)]).committed
        assert store.transact([Put("key", b"3"), Check("key", version)]).conflicts == ("key",)
        assert store.transact([Create("new", b""), Check("new", None)]).committed

    def test_a_transaction_may_check_and_list_without_writing(self, store: StateStore) -> None:
        store.set("a", b"1")
        version = _version(store, "a")

        assert store.transact([Check("a", version), ListPrefix("")]).entries == {"a": Entry(b"1", version)}
        assert store.transact([Check("a", None), ListPrefix("")]).conflicts == ("a",)

    def test_list_prefix_sees_the_writes_of_its_transaction(self, store: StateStore) -> None:
        for key in ("n/1", "n/2", "n/3", "other"):
            store.set(key, b"old")
        outcome = store.transact([ListPrefix("n/"), Put("n/1", b"new"), Delete("n/2"), Create("n/0", b"")])

        assert list(outcome.entries) == ["n/0", "n/1", "n/3"]
        assert outcome.entries == store.read([], ["n/"])

    def test_list_prefixes_that_overlap_give_each_key_once_and_in_order(self, store: StateStore) -> None:
        for key in reversed(HOSTILE_KEYS):
            store.set(key, b"")
        outcome = store.transact([ListPrefix("é"), ListPrefix("a"), ListPrefix(""), ListPrefix("none")])

        assert list(outcome.entries) == sorted(HOSTILE_KEYS, key=str.encode)

    def test_a_key_written_twice_in_a_transaction_is_refused(self, store: StateStore) -> None:
        with pytest.raises(StoreError):
            store.transact([Put("other", b""), Delete("key"), Create("key", b"")])

        assert store.list("") == {}

    def test_a_value_over_512_kb_is_refused_and_nothing_is_written(self, store: StateStore) -> None:
        value = bytes(512 * 1024 + 1)
        for write in (
            lambda: store.set("key", value),
            lambda: store.update("key", None, value),
            lambda: store.transact([Put("other", b""), Create("key", value)]),
        ):
            with pytest.raises(ValueTooLargeError):
                write()

        assert store.list("") == {}

    def test_a_transaction_of_fifty_writes_is_one(self, store: StateStore) -> None:
        ops: list[Op] = [Create(f"n/{number:02}", b"") for number in range(50)]
        outcome = store.transact([*ops, ListPrefix("n/")])

        assert len(outcome.entries) == 50
        assert set(store.transact([Create("new", b""), *ops]).conflicts) == {f"n/{number:02}" for number in range(50)}
        assert store.read(["new"]) == {}

    def test_a_transaction_of_sixty_operations_of_every_kind_is_one(self, store: StateStore) -> None:
        for number in range(15):
            store.set(f"due/{number:02}", b"old")
        held = store.read([], ["due/"])
        ops: list[Op] = [
            *(Check(key, entry.version) for key, entry in held.items()),
            *(Delete(key) for key in held),
            *(Put(f"moved/{number:02}", b"") for number in range(15)),
            *(Create(f"node/{number:02}", b"") for number in range(14)),
        ]
        store.set("due/14", b"new")

        assert store.transact([*ops, ListPrefix("")]).conflicts == ("due/14",)
        assert list(store.keys("")) == list(held)

        ops[14] = Check("due/14", _version(store, "due/14"))
        outcome = store.transact([*ops, ListPrefix("")])
        assert list(outcome.entries) == [f"{folder}/{n:02}" for folder, n in _numbered(moved=15, node=14)]

    def test_of_transactions_that_overlap_one_wins_whole(self, store: StateStore, peer: StateStore) -> None:
        def take(number: int, name: int) -> bool:
            keys = [f"{number}/a", f"{number}/b", f"{number}/c"]
            side = (store, peer)[name % 2]
            turned = keys[name % 3 :] + keys[: name % 3]
            return side.transact([Create(key, b"%d" % name) for key in turned]).committed

        for number in range(10):
            won = together(partial(take, number), range(6))

            winner = b"%d" % won.index(True)
            assert won.count(True) == 1
            assert set(store.list(f"{number}/").values()) == {winner}

    def test_of_many_arrivals_one_sees_them_all(self, store: StateStore, peer: StateStore) -> None:
        def arrive(number: int, name: int) -> int:
            view = (store, peer)[name % 2].configure("flow", str(number))
            return len(view.transact([Create(f"arrived/{name}", b""), ListPrefix("arrived/")]).entries)

        for number in range(10):
            seen = together(partial(arrive, number), range(6))

            assert sorted(seen) == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("request_id", HOSTILE_IDS)
    def test_a_view_takes_and_gives_relative_keys(self, store: StateStore, request_id: str) -> None:
        view = store.configure("flow", request_id)
        store.configure("flow", request_id + "0").set("a", b"of another")
        view.set("a", b"1")
        version = _version(view, "a")
        outcome = view.transact([Check("a", version), Put("a", b"2"), Create("n/b", b"3"), ListPrefix("n")])

        assert list(outcome.entries) == ["n/b"]
        assert view.transact([Create("a", b""), Check("n/b", None)]).conflicts == ("a", "n/b")
        assert view.list("", after="a") == {"n/b": b"3"}
        assert {key: entry.value for key, entry in view.read(["a"], ["n/"]).items()} == {"a": b"2", "n/b": b"3"}
        assert list(view.read([], [""])) == ["a", "n/b"]


def _numbered(**counts: int) -> Iterator[tuple[str, int]]:
    return ((name, number) for name, count in counts.items() for number in range(count))


def _version(store: StateStore, key: str) -> Any:
    return store.read([key])[key].version
