"""The README's pipeline on a cluster: its flow in two processes made from the template, functions behind a gateway."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from faasflow.config import Settings
from faasflow.local import Gateway, load_stack
from faasflow.runtime import build_engine, load_handler
from faasflow.stores import open_data_store, open_state_store
from tests.servers.consul import ConsulServer
from tests.servers.seaweed import SeaweedServer
from tests.support import wait_until
from tests.template.build_folder import ROOT, make_build_folder
from tests.template.serving import serving

FLOW = "weather-report"
HANDLER = ROOT / "examples" / FLOW
ENDED = ("FINISHED", "FAILED")
KEY = "a key of the pipeline's own"


@pytest.fixture
def settings(consul_server: ConsulServer, seaweed_server: SeaweedServer) -> Settings:
    return Settings(state_store=consul_server.url, data_store=seaweed_server.url(), flow=FLOW, key=KEY.encode())


@pytest.fixture
def gateway(settings: Settings, tmp_path: Path) -> Iterator[Gateway]:
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
    build_engine(load_handler(HANDLER), settings).remove_expired(0)
    assert not state.list(f"faasflow/{FLOW}/")
    assert not data.list(f"faasflow/{FLOW}/")
    state.close()
    data.close()
