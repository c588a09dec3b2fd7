"""The files of the template are what faas-cli, pip and of-watchdog expect."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from faasflow.config import Settings
from tests.template.build_folder import ROOT, TEMPLATE

DOCUMENT = yaml.safe_load((TEMPLATE / "template.yml").read_text())


def pins(file: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==[^\s\\;]+)", file.read_text(), re.MULTILINE))


def test_template_yml_has_the_fields_that_faas_cli_reads() -> None:
    assert DOCUMENT.keys() <= {
        "language",
        "fprocess",
        "welcome_message",
        "handler_folder",
        "build_options",
        "mount_ssh",
    }
    assert DOCUMENT["language"] == TEMPLATE.name
    assert DOCUMENT["fprocess"] == "python index.py"


def test_build_options_list_packages() -> None:
    options = {option["name"]: option["packages"] for option in DOCUMENT["build_options"]}

    assert options.keys() == {"dev", "libpq"}
    assert [name for packages in options.values() for name in packages if not re.fullmatch(r"[a-z0-9.+-]+", name)] == []


def test_what_the_welcome_message_adds_to_a_stack_file_is_enough_to_serve_a_flow(tmp_path: Path) -> None:
    sample = re.search(r"(?ms)^    labels:.*?(?=^\S)", DOCUMENT["welcome_message"])
    assert sample is not None
    entry = yaml.safe_load(sample[0])
    (tmp_path / "faasflow-hmac-secret").write_text("a key")

    settings = Settings.from_environment({**entry["environment"], "secret_mount_path": str(tmp_path)})

    assert settings.flow == "NAME"
    assert entry["labels"] == {"faas-flow": "1"}
    assert entry["secrets"] == ["faasflow-hmac-secret"]
    assert settings.gateway == "http://gateway.openfaas:8080"
    assert settings.exec_timeout == 60


def test_requirements_are_the_runtime_lock() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = pins(TEMPLATE / "requirements.txt")

    assert pinned == pins(ROOT / "requirements" / "runtime.txt")
    assert {re.split(r"[^a-z0-9-]", name)[0] for name in declared} <= {pin.partition("==")[0] for pin in pinned}


def test_the_tools_of_the_test_stage_are_those_of_the_dev_lock() -> None:
    assert pins(TEMPLATE / "requirements-test.txt") - pins(ROOT / "requirements" / "dev.txt") == set()


def test_a_new_flow_needs_no_packages_of_its_own() -> None:
    assert pins(TEMPLATE / "function" / "requirements.txt") == set()


@pytest.mark.parametrize("name", ["index.py", "function/handler.py"])
def test_what_a_user_looks_at_first_is_short(name: str) -> None:
    assert len((TEMPLATE / name).read_text().splitlines()) < 30
