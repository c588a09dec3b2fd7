"""The Compose file is what Docker takes, starts what the manifests start, and shows it to this machine only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.infra.support import COMPOSE, INFRA, Resource, compose, pods, tool

SERVICES = compose()["services"]


def check(file: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_file_is_what_the_compose_specification_takes() -> None:
    assert (checked := check(COMPOSE)).returncode == 0, checked.stdout


def test_a_misspelt_field_would_be_found(tmp_path: Path) -> None:
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text(COMPOSE.read_text().replace("cap_drop", "capdrop"))

    checked = check(misspelt)

    assert checked.returncode == 1
    assert "capdrop" in checked.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_on_the_loopback_address_unless_the_reader_names_another(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.match(r"(127\.0\.0\.1|\$\{FAASFLOW_BIND:-127\.0\.0\.1\}):\d+:\d+(/udp)?$", port)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


@pytest.mark.parametrize("name", ["consul", "minio"])
def test_a_store_has_a_volume_and_says_whether_it_is_well(name: str) -> None:
    volume, _, path = SERVICES[name]["volumes"][0].partition(":")

    assert volume in compose()["volumes"]
    assert any(path in part for part in SERVICES[name]["command"])
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_the_images_and_their_settings_are_those_of_the_manifests(resources: list[Resource]) -> None:
    for name, pod in pods(resources):
        (container,) = pod["containers"]
        service = SERVICES[name]
        set_there = {
            row["name"]: row["value"].replace("/run/secrets/minio", "/run/secrets") for row in container.get("env", [])
        }

        assert service["image"] == container["image"]
        assert service.get("environment", {}) == set_there
        if "command" in container:
            assert service["entrypoint"] + service["command"] == container["command"]


def test_secrets_come_from_files_that_the_repository_ignores() -> None:
    files = {secret["file"] for secret in compose()["secrets"].values()}
    ignored = subprocess.run(
        ["git", "check-ignore", *(str(INFRA / file) for file in files)], capture_output=True, text=True, cwd=INFRA
    )

    assert files == {f"secrets/{name}" for name in compose()["secrets"]}
    assert len(ignored.stdout.splitlines()) == len(files)
