"""What a function's requirements.txt names is told where it is missing, and installed for the function alone."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from faasflow.cli.inspection import Inspector
from faasflow.local import load_stack
from faasflow.local.packages import is_to_install, missing_packages
from tests.local.support import GatewayProcess
from tests.support import wait_until

WHEEL = "greeting_of_tests-1.0-py3-none-any.whl"
HANDLER = "import greeting_of_tests\ndef handle(event, context): return greeting_of_tests.TEXT"
FLOW = (
    "import greeting_of_tests\ndef define(flow, context): flow.sync_node().modify(lambda data: greeting_of_tests.TEXT)"
)


def require(handler: Path, text: str = "hello") -> None:
    """Let a function need a package that no index has: a wheel beside its handler."""
    info = "greeting_of_tests-1.0.dist-info"
    with zipfile.ZipFile(handler.with_name(WHEEL), "w") as wheel:
        wheel.writestr("greeting_of_tests.py", f"TEXT = {text!r}\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting-of-tests\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    handler.with_name("requirements.txt").write_text("# what it needs\ngreeting-of-tests==1.0\n")


def installed(run_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway that installs first, which takes its time on a busy machine."""
    gateway = run_gateway("--install")
    wait_until(lambda: "\nready\n" in gateway.printed, "the gateway says ready", timeout=180)
    return gateway


@pytest.fixture
def find_links(project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let installers look beside the handlers only."""
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, ".")


def test_a_missing_package_is_told_by_name_with_the_way_to_install_it(project, run_gateway):
    require(project.function("greet", HANDLER))
    project.function("plain", "def handle(event, context): return 'ok'")

    printed = run_gateway().wait_ready().printed

    assert (
        "greet: its requirements.txt names greeting-of-tests, not here; `faasflow up --install` installs it" in printed
    )
    assert "No module named 'greeting_of_tests'. Its requirements.txt is not installed here" in printed
    assert "plain: its requirements" not in printed


@pytest.mark.usefixtures("find_links")
def test_installed_packages_are_each_functions_own_and_stay(project, run_gateway, http: requests.Session):
    require(project.function("greet", HANDLER), "hello")
    require(project.function("part", HANDLER), "goodbye")
    require(project.function("flow", FLOW, lang="faas-flow"), "in a flow")

    gateway = installed(run_gateway)

    answers = {name: http.post(f"{gateway.url}/function/{name}").text for name in ("greet", "part", "flow")}
    stack = load_stack(project.stack_file)
    assert answers == {"greet": "hello", "part": "goodbye", "flow": "in a flow"}
    assert "greet: installing what its requirements.txt names\n" in gateway.printed
    assert not any(is_to_install(spec) or missing_packages(spec) for spec in stack.functions.values())
    assert Inspector(stack.functions["flow"]).wait().nodes == 1


@pytest.mark.usefixtures("find_links")
def test_what_cannot_be_installed_is_told_and_the_others_are_served(project, run_gateway, http: requests.Session):
    project.function("greet", HANDLER).with_name("requirements.txt").write_text("no-such-package-of-tests==1.0\n")
    project.function("plain", "def handle(event, context): return 'ok'")

    gateway = installed(run_gateway)

    assert "The requirements.txt of function 'greet' cannot be installed: " in gateway.printed
    assert http.get(f"{gateway.url}/function/plain").text == "ok"


def test_a_changed_requirements_file_is_to_be_installed_again(project):
    handler = project.function("greet", HANDLER)
    handler.with_name("requirements.txt").write_text("click\n# a comment\n\n")
    spec = load_stack(project.stack_file).functions["greet"]

    assert is_to_install(spec)
    assert missing_packages(spec) == []


def test_a_file_of_comments_needs_nothing(project):
    project.function("greet", HANDLER).with_name("requirements.txt").write_text("# nothing\n")

    assert not is_to_install(load_stack(project.stack_file).functions["greet"])
