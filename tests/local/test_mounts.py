"""Secrets on the laptop stand where functions look for them; a missing one is told with the way to make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from faasflow.local import FunctionSpec
from faasflow.local.mounts import SecretMounts

READ = """
import os, pathlib

def handle(event, context):
    return pathlib.Path(os.environ["secret_mount_path"], "key").read_text()
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "secrets"
    folder.mkdir(parents=True)
    (folder / "key").write_text("hush")
    return folder


def spec(*secrets: str, lang: str = "python3-http", **environment: str) -> FunctionSpec:
    return FunctionSpec(name="fn", lang=lang, handler=Path(), secrets=secrets, environment=environment)


def mounts(source: Path, *specs: FunctionSpec, mount: Path) -> SecretMounts:
    return SecretMounts(specs, source=source, mount=mount)


def test_a_secret_stands_where_functions_look_for_it_until_the_end(source, tmp_path):
    linked = mounts(source, spec("key"), mount=tmp_path / "var" / "secrets")

    assert linked.make() == []
    assert (tmp_path / "var" / "secrets" / "key").read_text() == "hush"
    linked.remove()
    assert [*(tmp_path / "var" / "secrets").iterdir()] == []


def test_a_secret_stands_where_secret_mount_path_says(source, tmp_path):
    mounts(source, spec("key", secret_mount_path=str(tmp_path / "run")), mount=tmp_path / "var").make()

    assert (tmp_path / "run" / "key").read_text() == "hush"
    assert not (tmp_path / "var").exists()


def test_a_flow_reads_its_secrets_where_they_are(source, tmp_path):
    assert mounts(source, spec("key", lang="faas-flow"), mount=tmp_path / "var").make() == []
    assert not (tmp_path / "var").exists()


def test_a_missing_secret_is_told_with_the_way_to_make_it(source, tmp_path):
    assert mounts(source, spec("key", "token"), mount=tmp_path / "var").make() == [
        f"fn: its secret 'token' is missing; make it with: printf %s VALUE > {source / 'token'}"
    ]


def test_a_place_that_cannot_be_written_is_told_with_the_way_out(source, tmp_path):
    (tmp_path / "file").write_text("")

    (told,) = mounts(source, spec("key"), mount=tmp_path / "file" / "secrets").make()

    assert f"secrets cannot be put into {tmp_path / 'file' / 'secrets'} (Not a directory)" in told
    assert "sudo mkdir -p" in told


def test_what_somebody_else_put_there_stays(source, tmp_path):
    mount = tmp_path / "var"
    mount.mkdir()
    (mount / "key").write_text("theirs")
    linked = mounts(source, spec("key"), mount=mount)

    linked.make()
    linked.remove()

    assert (mount / "key").read_text() == "theirs"


def test_a_link_that_a_killed_gateway_left_is_replaced(source, tmp_path):
    mount = tmp_path / "var"
    mount.mkdir()
    (mount / "key").symlink_to(tmp_path / "gone")

    mounts(source, spec("key"), mount=mount).make()

    assert (mount / "key").read_text() == "hush"


def test_a_function_that_lists_secrets_is_told_their_folder(
    project: Any, start_gateway: Any, http: requests.Session, tmp_path: Path
) -> None:
    project.function("fn", READ, secrets=["key"])
    gateway = start_gateway(project)
    (tmp_path / ".faasflow" / "secrets" / "key").write_text("hush")

    assert http.get(f"{gateway.url}/function/fn").text == "hush"


def test_up_tells_what_is_missing(project: Any, run_gateway: Any) -> None:
    project.function("fn", READ, secrets=["key"], environment={"secret_mount_path": str(project.folder / "run")})

    assert "fn: its secret 'key' is missing; make it with: printf" in run_gateway().wait_ready().printed
