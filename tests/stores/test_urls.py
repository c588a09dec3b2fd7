"""A store URL opens what it names, or is refused with the forms that are understood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from faasflow.errors import ConfigError
from faasflow.stores import open_data_store, open_state_store


def test_every_memory_url_opens_a_store_of_its_own() -> None:
    open_state_store("memory:").set("key", b"state")
    open_data_store("memory:").set("key", b"data")

    assert open_state_store("memory:").list("") == {}
    assert open_data_store("memory:").list("") == []


@pytest.mark.parametrize("name", ["store.db", "with space.db", "what?.db", "50%.db", "ü/store.db"])
def test_sqlite_urls_name_a_file_that_state_and_data_may_share(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    state, data = (
        open_state_store(path.as_uri().replace("file:", "sqlite:")),
        open_data_store(f"sqlite://{_quoted(path)}"),
    )
    state.set("key", b"state")
    data.set("key", b"data")

    assert path.is_file()
    assert open_state_store(f"sqlite://{_quoted(path)}?durability=full").get("key") == b"state"
    assert data.get("key") == b"data"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "memory",
            "memory://",
            "memory:?a=b",
            "store.db",
            "/abs/store.db",
            "sqlite:",
            "sqlite:store.db",
            "sqlite://",
        ),
        *(
            "sqlite:///",
            "sqlite:///folder/",
            "sqlite://host/store.db",
            "sqlite:/store.db",
            "mongodb://host",
            "SQLITE:///a",
        ),
        *("sqlite:///a?durability=fast", "sqlite:///a?durability=", "sqlite:///a?mode=ro", "sqlite:///a?durability"),
        *("sqlite:///a?durability=full&durability=normal", "sqlite:///a?durability=full&mode=ro", "sqlite:///a#b"),
    ],
)
@pytest.mark.parametrize("open_store", [open_state_store, open_data_store])
def test_any_other_url_is_refused_by_name(open_store: object, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)  # type: ignore[operator]

    assert repr(url) in caught.value.message or "durability" in caught.value.message
    assert "Use '" in caught.value.message


def test_an_adapter_is_not_imported_before_a_store_is_opened() -> None:
    script = (
        "import sys, faasflow.stores; print([name for name in sys.modules if 'sqlite' in name or 'memory' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def _quoted(path: Path) -> str:
    return path.as_uri().removeprefix("file://")
