"""The README's pipeline on a cluster: its flow in two processes made from the template, functions behind a gateway."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from faasflow.config import Settings
from faasflow.local import Gateway, load_stack
from faasflow.runtime import build_engine, load_handler
from faasflow.stores import open_data_store, open_state_store
from tests.jetstream.support import WorkerProcess
from tests.servers.consul import ConsulServer
from tests.servers.nats import NatsServer
from tests.servers.seaweed import SeaweedServer
from tests.support import wait_until
from tests.template.build_folder import ROOT, make_build_folder
from tests.template.serving import serving

FLOW = "weather-report"
HANDLER = ROOT / "examples" / FLOW
ENDED = ("FINISHED", "FAILED")
RECORDED = 1 + 4 * 5 + 1 + 3 + 1 + 4  # read, the years, their join, three findings, their join, report to publish
KEY = "a key of the pipeline's own"


@pytest.fixture
def settings(consul_server: ConsulServer, seaweed_server: SeaweedServer) -> Settings:
    return Settings(state_store=consul_server.url, data_store=seaweed_server.url(), flow=FLOW, key=KEY.encode())


@contextmanager
def running_pipeline(settings: Settings, tmp_path: Path, *, dispatcher: str = "gateway") -> Iterator[Gateway]:
    """A gateway with the pipeline's functions, and with its flow in two processes that share Consul and S3."""
    build = make_build_folder(HANDLER, tmp_path / "build")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "faasflow-hmac-secret").write_text(KEY)
    stack = load_stack(ROOT / "stack.yml")
    functions = {name: function for name, function in stack.functions.items() if function.lang != "faas-flow"}
    with ExitStack() as running:
        gateway = Gateway(replace(stack, functions=functions), state_dir=tmp_path / "gateway", port=0)
        gateway.start()
        running.callback(gateway.stop)
        environment = {
            "gateway": gateway.url,
            "workflow_name": FLOW,
            "state_store": settings.state_store,
            "data_store": settings.data_store,
            "dispatcher": dispatcher,
            "secret_mount_path": str(secrets),
            "report_dir": str(tmp_path / "reports"),
            "healthcheck_interval": "0s",
            "HOME": os.environ.get("HOME", "/"),
        }
        replicas = [
            running.enter_context(serving(Path(sys.executable), build, environment, tmp_path / f"{number}.log"))
            for number in range(2)
        ]
        gateway.add_upstream(FLOW, [replica.url for replica in replicas])
        yield gateway


@pytest.fixture
def gateway(settings: Settings, tmp_path: Path) -> Iterator[Gateway]:
    with running_pipeline(settings, tmp_path) as gateway:
        yield gateway


def test_over_jetstream_a_killed_worker_and_a_restarted_server_lose_and_double_nothing(
    settings: Settings, nats_server: NatsServer, tmp_path: Path
) -> None:
    stream = f"{nats_server.url}?stream=pipeline"
    with running_pipeline(settings, tmp_path, dispatcher=stream) as gateway:
        flow = f"{gateway.url}/function/{FLOW}"
        worker = WorkerProcess(tmp_path, stream, gateway.url, name="first")
        for number in range(4):
            assert requests.post(flow, headers={"X-Faas-Flow-Reqid": f"r{number}"}, timeout=60).status_code == 202
        wait_until(lambda: len(_nodes(flow, "r0")) >= 3, "the first nodes to have run", timeout=60)

        assert requests.get(f"{flow}/flow/r3/state", timeout=30).text == "RUNNING"
        worker.kill()
        nats_server.kill()
        nats_server.start()
        worker = WorkerProcess(tmp_path, stream, gateway.url, name="second")
        try:
            for number in range(4):
                state_of = f"{flow}/flow/r{number}/state"
                wait_until(lambda url=state_of: requests.get(url, timeout=30).text in ENDED, state_of, timeout=120)
        finally:
            worker.kill()

        for number in range(4):
            nodes = _nodes(flow, f"r{number}")
            assert len(nodes) == len(set(nodes)) == RECORDED
            assert "1461 days" in requests.get(f"{flow}/flow/r{number}/result", timeout=30).text


def _nodes(flow: str, request_id: str) -> list[str]:
    story = requests.get(f"{flow}/flow/{request_id}", timeout=30).json()
    return [node["path"] for node in story["nodes"] if "branches" not in node]


def test_the_pipeline_writes_its_report_and_leaves_nothing_behind(
    gateway: Gateway, settings: Settings, tmp_path: Path
) -> None:
    flow = f"{gateway.url}/function/{FLOW}"
    started = requests.post(flow, headers={"X-Faas-Flow-Reqid": "../the report"}, timeout=60)
    assert started.status_code == 202
    id = "..%2Fthe%20report"

    state_of = f"{flow}/flow/{id}/state"
    wait_until(lambda: requests.get(state_of, timeout=30).text in ENDED, "the report to be written", timeout=90)

    summary = requests.get(f"{flow}/flow/{id}/result", timeout=30).text
    assert "The weather of Seattle, 2012 to 2015: 1461 days" in summary
    assert "drought  2012: 48 days without rain, 23 July to 8 September" in summary
    [page] = (tmp_path / "reports").iterdir()
    assert "<svg" in page.read_text()

    state, data = open_state_store(settings.state_store), open_data_store(settings.data_store)
    assert state.list(f"faasflow/{FLOW}/")
    build_engine(load_handler(HANDLER), replace(settings, retention=0.0)).tick()
    assert [key.rpartition("/")[2] for key in state.list(f"faasflow/{FLOW}/")] == ["$clock"]
    assert not data.list(f"faasflow/{FLOW}/")
    state.close()
    data.close()
