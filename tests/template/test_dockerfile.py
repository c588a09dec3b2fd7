"""The Dockerfile can be built from the build folder, and what it makes is safe to run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.template.build_folder import TEMPLATE, make_build_folder
from tests.template.dockerfile import Stage, read_dockerfile

FILE = read_dockerfile(TEMPLATE / "Dockerfile")
STAGES = list(FILE.stages.values())
SHIPPED = FILE.chain("ship")

# Known to every stage without a declaration: what the images and the shell set.
_KNOWN = {"PATH"}


def environment(stages: list[Stage]) -> dict[str, str]:
    pairs = [word.partition("=") for stage in stages for line in stage.all("ENV") for word in line.words]
    return {name: value for name, _, value in pairs}


def seconds(duration: str) -> int:
    assert re.fullmatch(r"\d+s", duration)
    return int(duration.removesuffix("s"))


def declared(stages: list[Stage]) -> dict[str, str]:
    words = [word.partition("=") for stage in stages for line in stage.all("ARG") for word in line.words]
    return {name: value for name, _, value in words}


def test_everything_copied_is_in_the_build_folder(tmp_path: Path) -> None:
    folder = make_build_folder(TEMPLATE / "function", tmp_path / "build")
    copies = [copy for stage in STAGES for copy in stage.all("COPY") if not copy.flag("from")]
    sources = [source for copy in copies for source in copy.words[:-1]]

    assert [source for source in sources if not (folder / source).exists()] == []
    assert set(sources) >= {"index.py", "requirements.txt", "faasflow", "function"}


def test_every_environment_variable_is_written_with_an_equals_sign() -> None:
    words = [word for stage in STAGES for line in stage.all("ENV") for word in line.words]

    assert [word for word in words if not re.fullmatch(r"[A-Za-z_]\w*=.*", word)] == []


def test_the_last_stage_needs_the_tests_to_have_run() -> None:
    marker = next(copy.words[0] for copy in FILE.stages["ship"].all("COPY") if copy.flag("from") == "test")
    last = FILE.stages["test"].all("RUN")[-1].text

    assert STAGES[-1].name == "ship"
    assert FILE.needed("ship") == {"watchdog", "build", "test", "ship"}
    assert f"touch ../{Path(marker).name}" in last


def test_nothing_that_only_tests_need_is_shipped() -> None:
    names = [word for stage in SHIPPED for copy in stage.all("COPY") for word in copy.words]

    assert [name for name in names if "requirements-test" in name] == []


def test_functions_run_as_a_user_that_kubernetes_can_tell_from_root() -> None:
    users = [line.text for stage in SHIPPED for line in stage.all("USER")]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_any_user_can_read_what_index_py_loads() -> None:
    runs = " ".join(line.text for line in FILE.stages["build"].all("RUN"))
    readable = {name for names in re.findall(r"chmod -R a\+rX ([\w. ]+)", runs) for name in names.split()}

    assert readable == {"index.py", "faasflow", "function"}


def test_build_arguments_are_those_of_the_official_templates() -> None:
    arguments = {line.words[0].partition("=")[0]: line.words[0].partition("=")[2] for line in FILE.arguments}

    assert arguments == {"PYTHON_VERSION": "3.12", "DEBIAN_OS": "slim-bookworm"}
    assert declared(STAGES).keys() == {"ADDITIONAL_PACKAGE", "UPGRADE_PACKAGES", "TEST_COMMAND", "TEST_ENABLED"}
    assert declared(STAGES)["TEST_ENABLED"] == "true"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_variable_is_declared_in_the_stage_that_uses_it(stage: Stage) -> None:
    chain = FILE.chain(stage.name)
    known = _KNOWN | environment(chain).keys() | declared(chain).keys()
    used = {name for line in stage.instructions for name in re.findall(r"\$\{?(\w+)", line.text)}

    assert used - known == set()


def test_variables_of_base_images_are_declared_before_the_first_stage() -> None:
    known = {line.words[0].partition("=")[0] for line in FILE.arguments}
    used = {name for stage in STAGES for name in re.findall(r"\$\{?(\w+)", stage.base)}

    assert used == known


def test_base_images_have_a_version() -> None:
    images = [stage.base for stage in STAGES if stage.base not in FILE.stages]

    assert images == ["ghcr.io/openfaas/of-watchdog:0.11.6", "python:${PYTHON_VERSION}-${DEBIAN_OS}"]


@pytest.mark.parametrize("run", [line.text for stage in STAGES for line in stage.all("RUN")])
def test_every_command_is_what_a_posix_shell_understands(run: str) -> None:
    subprocess.run(["sh", "-n", "-c", run], check=True)


def test_the_watchdog_starts_the_process_of_template_yml_and_passes_http_to_it() -> None:
    values = environment(SHIPPED)

    assert values["fprocess"] == "python index.py"
    assert values["mode"] == "http"
    assert values["upstream_url"] == "http://127.0.0.1:5000"
    assert values["ready_path"] == "/_/ready"
    assert values["prefix_logs"] == "false"
    assert [line.text for line in FILE.stages["ship"].all("CMD")] == ['["fwatchdog"]']


def test_time_limits_fit_together_and_into_the_gateways_60_seconds() -> None:
    values = environment(SHIPPED)
    execution, read, write = (seconds(values[f"{name}_timeout"]) for name in ("exec", "read", "write"))

    assert execution <= 60
    assert execution < read
    assert execution < write
    assert seconds(values["healthcheck_interval"]) < execution


def test_health_is_the_lock_file_of_the_watchdog() -> None:
    (check,) = FILE.stages["ship"].all("HEALTHCHECK")

    assert shlex.split(check.text)[1:] == ["CMD", "[", "-e", "/tmp/.lock", "]", "||", "exit", "1"]
