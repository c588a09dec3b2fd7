"""What runs the clock of flows from outside: the function flow-clock, and the CronJob that needs no cron-connector."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import requests
import yaml
from click.testing import CliRunner
from pytest_httpserver import HTTPServer

from faasflow.cli import main
from faasflow.config import parse_duration
from faasflow.local import Gateway, Stack, load_stack
from faasflow.local.styles import Style, create_app
from tests.examples.support import load
from tests.infra.support import INFRA, PAGE, SECRETS, Resource
from tests.support import free_port, wait_until

STACK = load_stack(INFRA / "flow-clock.yml", environ={})
CLOCK = STACK.functions["flow-clock"]
CRONJOB: Resource = yaml.safe_load((INFRA / "kubernetes" / "flow-clock.yaml").read_text())
FLAKY = """
    from pathlib import Path
    from faasflow import Retry

    CALLS = Path(__file__).with_name("calls")

    def sometimes(data):
        with CALLS.open("a") as calls:
            calls.write("x")
        if len(CALLS.read_text()) < 2:
            raise OSError("not yet")
        return data + b", at last"

    def define(flow, context):
        flow.retry(Retry(attempts=2, delay=0.1))
        flow.sync_node().modify(sometimes)
"""


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """A gateway with flow-clock and a flow whose own clock is off, and which fails once."""
    started: list[Gateway] = []

    def start(**settings: str) -> Gateway:
        folder, port = tmp_path / "flaky", free_port()
        folder.mkdir()
        (folder / "handler.py").write_text(textwrap.dedent(FLAKY))
        flow = {"lang": "faas-flow", "handler": "./flaky", "environment": {"tick_interval": "0", **settings}}
        own = {"gateway": f"127.0.0.1:{port}", "secret_mount_path": str(tmp_path / "state" / "secrets")}
        clock = {"lang": CLOCK.lang, "handler": str(CLOCK.handler), "environment": own}
        file = tmp_path / "stack.yml"
        file.write_text(yaml.safe_dump({"functions": {"flaky": flow, "flow-clock": clock}}))
        started.append(Gateway(load_stack(file), state_dir=tmp_path / "state", port=port))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop(grace=2)


@pytest.fixture
def clock(httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Calls flow-clock in this process, on a gateway that answers what a test says."""
    monkeypatch.setenv("gateway", httpserver.url_for(""))
    monkeypatch.setenv("secret_mount_path", str(tmp_path))
    monkeypatch.delenv("flows", raising=False)
    return create_app(load(CLOCK.handler).handle, style=Style.HTTP).test_client().post


def test_a_flow_without_a_clock_of_its_own_goes_on_when_flow_clock_is_called(gateway: Callable[..., Gateway]) -> None:
    served = gateway()
    with requests.Session() as http:
        started = http.post(f"{served.url}/function/flaky", data=b"done")
        flow = f"{served.url}/function/flaky/flow/{started.headers['X-Faas-Flow-Reqid']}"
        stands = http.get(f"{flow}/state").text
        ticked = wait_until(lambda: ticks(http, served.url)["fired"] and "yes", "the timer is due")
        wait_until(lambda: http.get(f"{flow}/state").text == "FINISHED", "the flow ends")

        assert (started.status_code, stands, ticked) == (202, "RUNNING", "yes")
        assert http.get(f"{flow}/result").content == b"done, at last"


def ticks(http: requests.Session, url: str) -> dict[str, int]:
    answer = http.post(f"{url}/function/flow-clock")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    found: dict[str, dict[str, int]] = answer.json()
    assert found.keys() == {"flaky"}
    return found["flaky"]


def test_a_flow_that_wants_signatures_is_given_one(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    served = gateway(authenticate_request="true")
    signed = requests.post(f"{served.url}/function/flow-clock", timeout=30)
    unsigned = requests.post(f"{served.url}/function/flaky/flow/tick", timeout=30)

    assert (signed.status_code, signed.json()["flaky"]["fired"]) == (200, 0)
    assert unsigned.status_code == 401


def test_the_list_of_flows_is_asked_for_with_the_login_of_the_gateway(
    clock: Callable[..., Any], httpserver: HTTPServer, tmp_path: Path
) -> None:
    (tmp_path / "basic-auth-user").write_text("admin\n")
    (tmp_path / "basic-auth-password").write_text("hunter2\n")
    functions = [{"name": "b", "labels": {"faas-flow": "1"}}, {"name": "c", "labels": None}, {"name": "d"}]
    login = "Basic " + base64.b64encode(b"admin:hunter2").decode()
    httpserver.expect_request("/system/functions", headers={"Authorization": login}).respond_with_json(functions)
    httpserver.expect_request("/function/b/flow/tick", method="POST").respond_with_json({"fired": 1})
    answer = clock()

    assert (answer.status_code, answer.json) == (200, {"b": {"fired": 1}})
    assert "Authorization" not in httpserver.log[1][0].headers, "the login is for the gateway alone"


def test_a_list_that_cannot_be_had_is_told_with_the_way_out(clock: Callable[..., Any], httpserver: HTTPServer) -> None:
    httpserver.expect_request("/system/functions").respond_with_data("invalid credentials", status=401)
    answer = clock()

    assert answer.status_code == 502
    assert answer.json["error"] == "The gateway did not list its functions: 401: invalid credentials"
    assert "basic-auth-user" in answer.json["hint"]


def test_flows_that_are_named_need_no_list_and_one_that_fails_does_not_keep_the_others(
    clock: Callable[..., Any], httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("flows", "a, b")
    httpserver.expect_request("/function/a/flow/tick").respond_with_data("Consul is away.", status=503)
    httpserver.expect_request("/function/b/flow/tick").respond_with_json({"fired": 0})
    answer = clock()

    assert (answer.status_code, answer.json) == (502, {"a": {"error": "503: Consul is away."}, "b": {"fired": 0}})


def test_the_stack_file_says_to_the_cron_connector_when_to_call(tmp_path: Path) -> None:
    seconds = {name: parse_duration(CLOCK.environment[name]) for name in ("exec_timeout", "read_timeout")}

    assert (CLOCK.annotations["topic"], CLOCK.annotations["schedule"]) == ("cron-function", "* * * * *")
    assert CLOCK.annotations["schedule"] == CRONJOB["spec"]["schedule"]
    assert set(CLOCK.secrets) == {"faasflow-hmac-secret", "basic-auth-user", "basic-auth-password"}
    assert load(CLOCK.handler).TIMEOUT < (seconds["exec_timeout"] or 0) < (seconds["read_timeout"] or 0) < 60
    assert isinstance(STACK, Stack)


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_the_cron_job_is_what_this_kubernetes_takes(version: str) -> None:
    kubernetes_validate.validate(CRONJOB, version, strict=True)


def test_a_misspelt_field_of_it_would_be_found() -> None:
    misspelt = CRONJOB | {"spec": CRONJOB["spec"] | {"shedule": "* * * * *"}}

    with pytest.raises(kubernetes_validate.ValidationError, match="shedule"):
        kubernetes_validate.validate(misspelt, "1.37", strict=True)


def test_the_cron_job_keeps_to_the_restricted_standard_and_ends_before_the_next_one() -> None:
    job = CRONJOB["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]

    assert (CRONJOB["metadata"]["namespace"], CRONJOB["spec"]["concurrencyPolicy"]) == ("openfaas-fn", "Forbid")
    assert job["activeDeadlineSeconds"] < 60
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_command_of_the_cron_job_ticks_a_flow(
    gateway: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = gateway(authenticate_request="true")
    [container] = CRONJOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    [volume] = CRONJOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    mounted = container["volumeMounts"][0]["mountPath"]
    arguments = [
        text.replace("http://gateway.openfaas:8080", served.url)
        .replace(mounted, str(tmp_path / "state" / "secrets"))
        .replace("hello", "flaky")
        for text in container["args"]
    ]
    result = CliRunner().invoke(main, [container["command"][-1], *arguments])

    assert container["command"][:3] == ["python", "-m", "faasflow.cli"]
    assert volume["secret"]["secretName"] in SECRETS
    assert (result.exit_code, result.stdout.splitlines()[1].split()) == (0, ["flaky", "0", "0", "0"]), result.stderr


def test_the_page_says_how_both_are_deployed() -> None:
    text = PAGE.read_text()

    assert "flow-clock.yml" in text
    assert "infra/kubernetes/flow-clock.yaml" in text
    assert CRONJOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"].startswith(
        "registry.example.com/"
    )
