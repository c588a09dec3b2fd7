"""A client that knows only OpenFaaS works against the embedded gateway: plain HTTP calls, as faas-cli makes them."""

from __future__ import annotations

import json
import re

import pytest
import requests

from tests.e2e.conftest import Installation
from tests.support import wait_until


@pytest.fixture
def gateway(installation: Installation) -> str:
    installation.start()
    return installation.url


def test_list_invoke_async_describe_and_logs_work_as_faas_cli_makes_them(gateway: str) -> None:
    # faas-cli list
    listed = requests.get(f"{gateway}/system/functions", params={"namespace": ""}, timeout=10).json()
    assert {function["name"] for function in listed} == {"pipeline", "upper"}
    assert {"image", "invocationCount", "replicas", "labels"} <= set(listed[0])

    # faas-cli invoke upper
    called = requests.post(f"{gateway}/function/upper.openfaas-fn", data=b"abc", headers=_TEXT, timeout=30)
    assert (called.status_code, called.content) == (200, b"ABC")

    # faas-cli invoke pipeline: a flow of several nodes takes the request and says its id
    started = requests.post(f"{gateway}/function/pipeline", data=b"a b", headers=_TEXT, timeout=30)
    assert started.status_code == 202
    request_id = started.headers["X-Faas-Flow-Reqid"]
    state = f"{gateway}/function/pipeline?state={request_id}"
    wait_until(lambda: requests.post(state, timeout=10).text == "FINISHED", "the request to finish")
    result = requests.get(f"{gateway}/function/pipeline/flow/{request_id}/result", timeout=10)
    assert result.text == "2: A B"

    # faas-cli invoke --async pipeline
    queued = requests.post(f"{gateway}/async-function/pipeline", data=b"c", headers=_TEXT, timeout=30)
    assert queued.status_code == 202
    assert queued.headers["X-Call-Id"]
    wait_until(lambda: _requests(gateway).count("FINISHED") == 2, "the queued request to finish")

    # faas-cli describe upper
    described = requests.get(f"{gateway}/system/function/upper", params={"usage": "1"}, timeout=10).json()
    assert (described["name"], described["availableReplicas"]) == ("upper", 1)
    assert described["invocationCount"] >= 3

    # faas-cli logs upper
    logs = requests.get(f"{gateway}/system/logs", params={"name": "upper", "tail": 1, "follow": "false"}, timeout=10)
    lines = [json.loads(line) for line in logs.text.splitlines()]
    assert [(line["name"], line["text"]) for line in lines] == [("upper", "upper was called")]
    assert re.match(r"\d{4}-\d\d-\d\dT", lines[0]["timestamp"])


def _requests(gateway: str) -> list[str]:
    listed = requests.get(f"{gateway}/function/pipeline/flow", timeout=10).json()
    rows = listed["requests"] if isinstance(listed, dict) else listed
    return [row["state"] for row in rows]


_TEXT = {"Content-Type": "text/plain", "User-Agent": "faas-cli/0.18.12"}
