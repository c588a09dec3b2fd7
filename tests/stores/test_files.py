"""The file store keeps the contract, whatever its keys look like and whenever its process ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.config import inspect
from faasflow.errors import ConfigError, KeyNotFoundError, StoreCorruptError, StoreUnavailableError
from faasflow.ports import DataStore
from faasflow.runtime.checks import Verdict, run_checks
from faasflow.stores import open_data_store
from faasflow.stores.files import FileDataStore
from faasflow.testing.contracts import HOSTILE_IDS, HOSTILE_KEYS, DataStoreContract, together

MEGABYTE = 1024 * 1024
OWN = "faasflow-data"
PATHS = [
    *("../../outside", "/etc/outside", "a/../../../../outside", "..", "../", "./x", ".", "faasflow/../../outside"),
    *(
        "faasflow/../../x/outside",
        "faasflow/f/../../../outside",
        "faasflow/f/r/../../../outside",
        "faasflow///",
        "+/+/x",
    ),
]

WRITE_FOR_EVER = """
import sys
from faasflow.stores.files import FileDataStore

view = FileDataStore(sys.argv[1]).configure("flow", "1")
for number in range(1_000_000):
    view.set(f"key/{number % 7}", b"%07d" % number * 50_000)
    print(number, flush=True)
"""

FILL_THE_DISK = """
import resource, signal, sys
from faasflow.config import inspect
from faasflow.errors import StoreUnavailableError
from faasflow.stores.files import FileDataStore

store = FileDataStore(sys.argv[1])
store.set("key", b"kept")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.set("key", bytes(1_000_000))
except StoreUnavailableError as exc:
    print(exc.message)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some" / "data"


@pytest.fixture
def store(folder: Path) -> FileDataStore:
    return FileDataStore(folder)


class TestContract(DataStoreContract):
    @pytest.fixture
    def store(self, folder: Path) -> Iterator[DataStore]:
        store = FileDataStore(folder)
        store.init()
        yield store
        store.close()

    @pytest.fixture
    def peer(self, folder: Path) -> DataStore:
        return FileDataStore(folder)


@pytest.mark.parametrize("key", PATHS)
def test_no_key_leads_out_of_the_folder(store: FileDataStore, folder: Path, tmp_path: Path, key: str) -> None:
    store.set(key, b"value")

    assert store.get(key) == b"value"
    assert store.list("") == [key]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(_files(folder))
    store.clear(key)
    assert _files(folder) == []


@pytest.mark.parametrize(
    "key", ["x" * 5000, "x/" * 3000, "\U0010ffff" * 2000, "\ud800", "nul \0", "new\nline", "a" * 128]
)
def test_keys_of_any_length_and_any_characters_fit(store: FileDataStore, key: str) -> None:
    view = store.configure("flow", "1")
    for each in (key, key + "x"):
        view.set(each, each.encode("utf-8", "replace"))

    assert view.list("") == [key, key + "x"]
    assert view.get(key + "x") == (key + "x").encode("utf-8", "replace")


def test_names_differ_in_more_than_their_capitals(store: FileDataStore, folder: Path) -> None:
    keys = [*HOSTILE_KEYS, *(key.swapcase() for key in HOSTILE_KEYS)]
    for number, request_id in enumerate(HOSTILE_IDS):
        store.configure("flow", request_id).set(keys[number % len(keys)], b"")
    for key in keys:
        store.configure("flow", "1").set(key, b"")

    names = [str(path).lower() for path in _files(folder)]
    assert len(names) == len(set(names))


def test_a_request_has_a_folder_that_people_can_find(store: FileDataStore, folder: Path) -> None:
    store.configure("resize-images", "d45r8q3c77u0j3rk0q2g").set("data/Node A", b"value")

    (file,) = (folder / OWN / "resize-images" / "d45r8q3c77u0j3rk0q2g").iterdir()
    assert re.fullmatch("data_node_a~[0-9a-f]{40}", file.name)
    assert file.read_bytes().splitlines()[1:] == [b"value"]


def test_nothing_acknowledged_is_lost_and_nothing_is_half_written_by_kill_9(folder: Path) -> None:
    for life in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3 + life * 7)]
        process.kill()
        acknowledged = int((lines + process.stdout.read().splitlines())[-1])
        process.wait()

        view = FileDataStore(folder).configure("flow", "1")
        last = {key: int(_only(view.get(key), 7)) for key in view.list("key/")}
        assert last[f"key/{acknowledged % 7}"] in (acknowledged, acknowledged + 7)
        assert max(last.values()) <= acknowledged + 1


def test_cleanup_removes_what_a_killed_process_left_and_nothing_else(store: FileDataStore, folder: Path) -> None:
    for request_id in ("1", "10", "2"):
        store.configure("flow", request_id).set("key", b"value")
        (folder / OWN / "flow" / request_id / f".faasflow-{32 * '0'}").write_bytes(b"half a val")
    kept = [path for path in _files(folder) if path.parent.name != "1"]
    store.configure("flow", "1").cleanup()

    assert _files(folder) == kept
    assert store.list("") == ["faasflow/flow/10/key", "faasflow/flow/2/key"]


def test_what_a_killed_cleanup_left_goes_with_the_next_one(store: FileDataStore) -> None:
    view = store.configure("flow", "1")
    for key in ("a", "b"):
        view.set(key, b"value")
    view.delete("a")
    view.cleanup()

    assert store.list("") == []


FOREIGN = (
    *(".git/HEAD", ".ssh/id_ed25519", f".{32 * 'a'}/notes", f".{32 * 'b'}", "flow/1/notes.txt", "flow/1/sub/deep"),
    *("faasflow-data/.git/HEAD", "faasflow-data/flow/1/notes.txt", "faasflow-data/flow/1/.hidden", "README"),
    *("faasflow-data/flow/2/sub/deep", "faasflow/flow/1/key", "other/1/2", f"flow/1/sub/.{32 * 'c'}"),
)


@pytest.mark.parametrize("flow", ["flow", ".git", ".ssh", "..", "faasflow-data", "other"])
def test_a_folder_that_holds_others_things_keeps_them(folder: Path, flow: str) -> None:
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}, not ours")
    (folder / "faasflow-data" / "flow" / "1" / "link").symlink_to(folder / ".git")
    os.mkfifo(folder / "faasflow-data" / "flow" / "1" / "pipe")
    before = _everything(folder)
    store = FileDataStore(folder)
    store.init()
    for request_id in ("1", "2", "HEAD", "id_ed25519"):
        view = store.configure(flow, request_id)
        view.set("key", b"value")
        view.delete("notes.txt")
        assert view.list("") == ["key"]
        view.cleanup()
    store.set("key", b"value")
    store.cleanup()

    after = _everything(folder)
    assert {name: after.get(name) for name in before} == before
    assert store.list("") == []


def test_doctor_touches_nothing_in_a_folder_that_it_checks(folder: Path) -> None:
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh" / "id_ed25519").write_text("secret")
    before = _everything(folder)
    checks = list(run_checks(inspect({"data_store": folder.as_uri(), "state_store": "memory:"})))

    assert [check.verdict for check in checks if check.name == "data store"] == [Verdict.GOOD]
    after = _everything(folder)
    assert {name: after.get(name) for name in before} == before


def test_what_a_former_version_wrote_is_read_and_removed_where_it_is(store: FileDataStore, folder: Path) -> None:
    for request_id in ("1", "2"):
        store.configure("flow", request_id).set("key", b"of before")
    for path in list((folder / OWN).iterdir()):
        path.rename(folder / path.name)
    unfinished = folder / "flow" / "1" / f".{32 * 'd'}"
    unfinished.write_bytes(b"half a val")
    view = store.configure("flow", "1")

    assert view.get("key") == b"of before"
    assert view.list("") == ["key"]
    view.set("key", b"of now")
    assert view.get("key") == b"of now"
    view.cleanup()
    assert view.list("") == []
    assert not (folder / "flow" / "1").exists()
    assert store.configure("flow", "2").get("key") == b"of before"
    store.configure("flow", "2").delete("key")
    assert store.configure("flow", "2").list("") == []


def test_unfinished_and_foreign_files_are_no_keys(store: FileDataStore, folder: Path) -> None:
    view = store.configure("flow", "1")
    view.set("key", b"value")
    for name in (".DS_Store", "notes.txt", "empty"):
        (folder / OWN / "flow" / "1" / name).write_text(name if name != "empty" else "")
    (folder / "README").write_text("mine")
    (folder / OWN / "flow" / "1" / "sub").mkdir()

    assert store.list("") == ["faasflow/flow/1/key"]
    with pytest.raises(StoreCorruptError, match="changed, or damaged"):
        view.get("notes.txt")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content.replace(b"value", b"valuE"),
        lambda content: content.replace(b"key", b"kez"),
        lambda content: b"",
        lambda content: b"\xff" * 1000,
    ],
)
def test_a_file_that_was_changed_is_told_from_a_value(store: FileDataStore, folder: Path, damage: object) -> None:
    store.set("key", b"value")
    (file,) = _files(folder)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]

    with pytest.raises(StoreCorruptError, match="'key'"):
        store.get("key")
    store.set("key", b"again")
    assert store.get("key") == b"again"


def test_a_file_in_the_place_of_another_is_not_its_value(store: FileDataStore, folder: Path) -> None:
    store.set("a", b"of a")
    store.set("b", b"of b")
    first, second = sorted(_files(folder))
    first.replace(second)

    with pytest.raises(StoreCorruptError):
        store.get("b")
    with pytest.raises(KeyNotFoundError):
        store.get("a")


def test_a_full_disk_is_told_and_leaves_the_value_that_was_there(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL_THE_DISK, folder], capture_output=True, text=True, check=True)

    assert done.stdout == f"The data folder {str(folder)!r} cannot be used now: File too large.\n"
    assert FileDataStore(folder).get("key") == b"kept"
    assert len(_files(folder)) == 1


def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailableError, match="cannot be used now") as caught:
            FileDataStore(place).init()
        assert caught.value.hint


def test_writes_and_cleanups_at_the_same_moment_do_not_fail(store: FileDataStore) -> None:
    def work(number: int) -> None:
        view = store.configure("flow", "1")
        for _ in range(40):
            if number % 4 == 0:
                view.cleanup()
            else:
                view.set(f"key/{number}", b"value")
                assert set(view.list("key/")) <= {f"key/{other}" for other in range(8)}

    together(work, range(8))
    store.configure("flow", "1").cleanup()

    assert store.list("") == []


def test_a_large_value_is_in_memory_once(store: FileDataStore) -> None:
    size = 20 * MEGABYTE
    value = bytes(size)
    tracemalloc.start()
    try:
        store.set("key", value)
        written = tracemalloc.get_traced_memory()[1]
        found = store.get("key")
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found == value
    assert written < MEGABYTE
    assert read < size + MEGABYTE


@pytest.mark.parametrize("name", ["data", "with space", "what?", "50%", "ü/deep"])
def test_a_url_names_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    store = open_data_store(folder.as_uri())
    store.init()
    store.set("key", b"value")

    assert FileDataStore(folder).get("key") == b"value"
    assert open_data_store(f"{folder.as_uri()}/").list("") == ["key"]


@pytest.mark.parametrize(
    "url", ["file:", "file:data", "file://", "file:///", "file://host/a", "file:/a", "file:///a?b=c", "file:///a#b"]
)
def test_any_other_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"Use 'memory:'.*'file:///absolute/folder'") as caught:
        open_data_store(url)

    assert repr(url) in caught.value.message


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _everything(folder: Path) -> dict[str, bytes]:
    """What lies in `folder`, with what its files hold."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def _only(value: bytes, size: int) -> bytes:
    """The part of `size` bytes that all of `value` repeats."""
    assert value == value[:size] * (len(value) // size)
    return value[:size]
