"""Whatever the stack, the manifests and the page name, the code reads, and what they set there fits together."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faasflow.config import Inspection, inspect
from faasflow.config.tracing import AGENT, COLLECTOR
from faasflow.runtime.timeouts import timeout_warnings
from tests.examples.support import FLOWS, STACK
from tests.infra.support import PAGE, SECRETS, Resource, compose, flow_settings


def page_settings() -> dict[str, str]:
    """What the page sets for a flow: with `--env`, and in the environments of its stack files."""
    text = PAGE.read_text()
    given = re.findall(r"--env (\w+)=([^\s`]+)", text)
    listed = re.findall(r'^      (\w+): "?([^"\n]+)"?$', "".join(_blocks(text, "yaml")), re.MULTILINE)
    return dict(given) | dict(listed)


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The folder of the secrets that the manifests make, as a function sees it."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n")
    return tmp_path


def in_cluster(settings: dict[str, str], mounted: Path) -> Inspection:
    surroundings = {"fprocess": "python index.py", "upstream_url": "http://127.0.0.1:5000"}
    return inspect({**surroundings, **settings, "secret_mount_path": str(mounted)})


@pytest.mark.parametrize("settings", [flow_settings(), page_settings()], ids=["flow.yml", "deploying.md"])
def test_every_setting_is_read_and_understood(settings: dict[str, str], mounted: Path) -> None:
    found = in_cluster(settings, mounted)
    read = {reading.name: reading.note for reading in found.readings}

    assert found.problems == ()
    assert {"consul_url", "s3_url", "exec_timeout"} <= settings.keys() <= read.keys()
    assert {read[name] for name in settings.keys() - {"trace_server"}} == {""}


@pytest.mark.parametrize("settings", [flow_settings(), page_settings()], ids=["flow.yml", "deploying.md"])
def test_no_timeout_cuts_a_delivery(settings: dict[str, str], mounted: Path) -> None:
    settled = in_cluster(settings, mounted).settings

    assert timeout_warnings(settled) == []
    assert settled.call_timeout < settled.exec_timeout < min(settled.read_timeout, settled.write_timeout)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_of_the_stack_sets_nothing_that_is_not_read(flow: str, mounted: Path) -> None:
    environment = {**STACK.functions[flow].environment}
    read = {reading.name for reading in in_cluster(environment, mounted).readings}
    handler = (STACK.functions[flow].handler / "handler.py").read_text()

    assert all(name in read or f'"{name}"' in handler for name in environment)


def test_the_stores_that_flow_yml_names_are_services_of_the_manifests(resources: list[Resource]) -> None:
    services = {
        f"{resource['metadata']['name']}.{resource['metadata']['namespace']}:{port['port']}"
        for resource in resources
        if resource["kind"] == "Service"
        for port in resource["spec"]["ports"]
    }

    assert {flow_settings()["consul_url"], flow_settings()["s3_url"]} <= services
    assert {AGENT, urlsplit(COLLECTOR).netloc, flow_settings()["trace_server"]} <= services


def test_the_page_names_the_servers_of_the_manifests_and_those_of_the_compose_file() -> None:
    text = PAGE.read_text()
    ports = {
        port.rsplit(":", 1)[1].partition("/")[0] for row in compose()["services"].values() for port in row["ports"]
    }
    named = set(re.findall(r"--env (?:consul|s3)_url=([^\s`]+)", text))

    assert {flow_settings()["consul_url"], flow_settings()["s3_url"]} <= named
    assert {urlsplit(f"//{address}").port for address in named} <= {int(port) for port in ports}


def test_a_flow_with_these_stores_asks_for_exactly_the_secrets_that_are_made(mounted: Path) -> None:
    stores = {name: flow_settings()[name] for name in ("consul_url", "s3_url")}

    for name in SECRETS:
        value = (mounted / name).read_text()
        (mounted / name).unlink()
        (problem,) = in_cluster(stores, mounted).problems
        (mounted / name).write_text(value)
        assert repr(name) in str(problem)

    assert in_cluster(stores, mounted).problems == ()


def test_the_page_makes_every_secret_that_is_needed() -> None:
    text = PAGE.read_text()

    for name in SECRETS:
        assert f'> "$secrets/{name}"' in text
        assert f"--secret {name}" in text or name == "faasflow-hmac-secret"
