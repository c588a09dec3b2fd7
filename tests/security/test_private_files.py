"""What is kept on this machine can be read by its owner only, whatever the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.local import Gateway
from faasflow.private import make_private_folder
from faasflow.stores import open_data_store, open_state_store
from faasflow.testing import FlowTester
from tests.support import free_port


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, set[int]]:
    """The modes of all files and folders, the folder itself included."""
    found = [folder, *folder.rglob("*")]
    return {
        "folders": {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()},
        "files": {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()},
    }


def test_the_stores_of_a_flow_are_private(tmp_path: Path) -> None:
    state = open_state_store(f"sqlite://{tmp_path}/kept/flows/orders.db")
    data = open_data_store(f"file://{tmp_path}/kept/data")
    state.init()
    data.init()
    FlowTester(lambda flow, context: flow.sync_node().modify(lambda x: x * 100_000), state=state, data=data).run(b"x")

    assert modes(tmp_path / "kept") == {"folders": {0o700}, "files": {0o600}}


def test_the_state_folder_of_a_gateway_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    gateway = Gateway(state_dir=folder, port=free_port())
    found = modes(folder)
    gateway.stop(grace=0)

    assert found == {"folders": {0o700}, "files": {0o600}}


def test_a_folder_that_somebody_else_put_where_all_users_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "elsewhere").mkdir()
    (shared / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError, match="somebody else"):
        make_private_folder(shared / "link")
    make_private_folder(shared / "own")
