"""A file that is damaged, or not ours, is refused by name, with a way out, and left as it is."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from faasflow.errors import StoreCorruptError, StoreError, StoreUnavailableError
from faasflow.stores.sqlite import SqliteDataStore, SqliteStateStore

RUBBISH = random.Random(0).randbytes(200_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.mark.parametrize(
    "content",
    [b"xy", b"not a database\n", b"SQLite format 3", RUBBISH, b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["two bytes", "text", "half a header", "rubbish", "a header and rubbish"],
)
def test_a_file_that_is_not_of_sqlite_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    _assert_refused(path)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    SqliteStateStore(path).set("key", b"value")

    assert SqliteStateStore(path).get("key") == b"value"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE theirs (a)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 7",
        "CREATE VIEW theirs AS SELECT 1",
    ],
)
def test_a_file_of_another_application_is_refused(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()
    content = path.read_bytes()

    _assert_refused(path, because="another application")
    assert path.read_bytes() == content


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    store = SqliteStateStore(path)
    store.set("key", b"value")
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()

    _assert_refused(path, because="newer")


def test_a_file_without_its_end_is_refused(path: Path) -> None:
    store = SqliteStateStore(path)
    for number in range(500):
        store.set(f"key/{number:03}", b"value %d" % number * 20)
    store.close()
    whole = path.read_bytes()
    for size in range(4096, len(whole), 7 * 4096 + 13):
        path.write_bytes(whole[:size])

        with pytest.raises(StoreCorruptError, match=r"store\.db"):
            SqliteStateStore(path).list("")


def test_a_log_without_its_end_loses_only_its_last_transactions(path: Path, tmp_path: Path) -> None:
    store = SqliteStateStore(path)
    for number in range(50):
        store.set(f"key/{number:02}", b"value")
    log = Path(f"{path}-wal").read_bytes()
    copy = tmp_path / "copy.db"
    for size in range(0, len(log), 8 * 1024 + 7):
        copy.write_bytes(path.read_bytes())
        Path(f"{copy}-wal").write_bytes(log[:size])
        Path(f"{copy}-shm").unlink(missing_ok=True)
        reopened = SqliteStateStore(copy)

        found = list(reopened.list("key/"))
        assert found == [f"key/{number:02}" for number in range(len(found))]
        reopened.close()
    store.close()


def test_rubbish_in_the_middle_is_reported_and_never_returned(path: Path) -> None:
    store = SqliteStateStore(path)
    for number in range(300):
        store.set(f"key/{number:03}", b"value" * 100)
    store.close()
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 40 * 4096] = RUBBISH[: 35 * 4096]
    path.write_bytes(content)

    with pytest.raises(StoreCorruptError, match=r"store\.db"):
        SqliteStateStore(path).list("")


def test_a_folder_in_place_of_the_file_is_unavailable(path: Path) -> None:
    path.mkdir()

    with pytest.raises(StoreUnavailableError, match=r"store\.db") as caught:
        SqliteStateStore(path).init()
    assert caught.value.hint


def test_a_file_in_place_of_the_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()

    with pytest.raises(StoreUnavailableError, match=r"folder/store\.db") as caught:
        SqliteDataStore(tmp_path / "folder" / "store.db").init()
    assert caught.value.hint


def test_a_refused_file_can_be_moved_away_and_the_same_store_used_then(path: Path) -> None:
    path.write_bytes(b"not a database\n")
    store = SqliteStateStore(path)
    _assert_refused(path)
    path.unlink()
    store.set("key", b"value")

    assert store.get("key") == b"value"


def test_a_key_that_is_no_text_is_refused_and_harms_nothing(path: Path) -> None:
    store = SqliteStateStore(path)
    with pytest.raises(StoreError, match="surrogates"):
        store.set("\ud800", b"value")

    store.set("key", b"value")
    assert store.list("") == {"key": b"value"}


def _assert_refused(path: Path, *, because: str = "") -> None:
    for store in (SqliteStateStore(path), SqliteDataStore(path)):
        with pytest.raises(StoreCorruptError) as caught:
            store.init()
        assert repr(str(path)) in caught.value.message
        assert because in caught.value.message
        assert caught.value.hint
        with pytest.raises(StoreCorruptError):
            store.set("key", b"value")
        store.close()
