from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import requests

from faasflow.local import Gateway
from tests.support import wait_until

ECHO = "def handle(req):\n    print(req)\n    return req\n"


@pytest.fixture
def gateway(project, start_gateway) -> Gateway:
    project.function(
        "echo", ECHO, lang="python3-flask", labels={"tier": "1"}, annotations={"topic": "x"}, secrets=["key"]
    )
    return start_gateway(project)


def records(answer: requests.Response) -> list[dict[str, str]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def texts(answer: requests.Response) -> list[str]:
    return [record["text"] for record in records(answer)]


def test_functions_are_described_as_a_provider_does(gateway, http):
    http.post(f"{gateway.url}/function/echo", data="1")

    (described,) = http.get(f"{gateway.url}/system/functions").json()

    created = datetime.fromisoformat(described.pop("createdAt"))
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60
    assert described == {
        "name": "echo",
        "image": "echo:latest",
        "namespace": "openfaas-fn",
        "envProcess": "python -m faasflow.local.serve",
        "labels": {"tier": "1"},
        "annotations": {"topic": "x"},
        "secrets": ["key"],
        "replicas": 1,
        "availableReplicas": 1,
        "invocationCount": 1,
    }


def test_flows_are_labelled_as_flows_without_being_told(project, start_gateway, http):
    flow = "def define(flow, context):\n    flow.sync_node().modify(lambda data: data)\n"
    project.function("bare", flow, lang="faas-flow")
    project.function("hidden", flow, lang="faas-flow", labels={"faas-flow": "0", "tier": "1"})
    project.function("plain", ECHO, lang="python3-flask")
    gateway = start_gateway(project)
    gateway.add_upstream("another", ["http://127.0.0.1:1"])
    listed = http.get(f"{gateway.url}/system/functions").json()

    assert {function["name"]: function["labels"] for function in listed} == {
        "another": {},
        "bare": {"faas-flow": "1"},
        "hidden": {"faas-flow": "0", "tier": "1"},
        "plain": {},
    }


def test_functions_are_listed_by_name_and_namespace(gateway, http):
    gateway.add_upstream("another", ["http://127.0.0.1:1", "http://127.0.0.1:2"])
    listed = http.get(f"{gateway.url}/system/functions").json()

    assert [(function["name"], function["replicas"]) for function in listed] == [("another", 2), ("echo", 1)]
    assert http.get(f"{gateway.url}/system/functions?namespace=other").json() == []


def test_one_function_is_described_by_name(gateway, http):
    assert http.get(f"{gateway.url}/system/function/echo.openfaas-fn").json()["name"] == "echo"
    assert http.get(f"{gateway.url}/system/function/nope").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_deploying_is_refused_with_the_way_to_do_it(gateway, http, method):
    answer = http.request(method, f"{gateway.url}/system/functions", json={"service": "x"})

    assert (answer.status_code, "Change stack.yml" in answer.text) == (501, True)


def test_scaling_is_accepted_for_a_function_that_exists(gateway, http):
    asked = {"serviceName": "echo", "replicas": 3}

    assert http.post(f"{gateway.url}/system/scale-function/echo", json=asked).status_code == 202
    assert http.post(f"{gateway.url}/system/scale-function/nope", json=asked).status_code == 404


def test_health_namespaces_and_info_are_answered(gateway, http):
    assert http.get(f"{gateway.url}/healthz").status_code == 200
    assert http.get(f"{gateway.url}/system/namespaces").json() == ["openfaas-fn"]
    assert http.get(f"{gateway.url}/system/info").json()["provider"]["orchestration"] == "local"
    assert "echo" in http.get(f"{gateway.url}/").text


def test_logs_are_json_lines_and_can_be_cut_by_number_and_time(gateway, http):
    for text in "abc":
        http.post(f"{gateway.url}/function/echo", data=text)
    logs = f"{gateway.url}/system/logs"
    wait_until(lambda: len(texts(http.get(f"{logs}?name=echo"))) == 3, "three lines are logged")

    third = records(http.get(f"{logs}?name=echo"))[2]
    assert set(third) == {"name", "namespace", "instance", "timestamp", "text"}
    assert (third["name"], third["namespace"], third["text"]) == ("echo", "openfaas-fn", "c")
    assert texts(http.get(f"{logs}?name=echo&tail=2")) == ["b", "c"]
    assert texts(http.get(f"{logs}?name=echo&tail=0")) == []
    assert texts(http.get(logs, params={"name": "echo", "since": third["timestamp"]})) == ["c"]


def test_followed_logs_come_as_they_are_written(gateway, http):
    http.post(f"{gateway.url}/function/echo", data="before")
    wait_until(lambda: texts(http.get(f"{gateway.url}/system/logs?name=echo")), "the line is logged")

    with http.get(f"{gateway.url}/system/logs?name=echo&follow=true&tail=1", stream=True) as answer:
        lines = answer.iter_lines()
        first = json.loads(next(lines))["text"]
        requests.post(f"{gateway.url}/function/echo", data="after", timeout=10)
        second = json.loads(next(lines))["text"]

    assert (first, second) == ("before", "after")


def test_a_follower_ends_when_the_gateway_stops(gateway, http):
    http.post(f"{gateway.url}/function/echo", data="line")

    with http.get(f"{gateway.url}/system/logs?name=echo&follow=true", stream=True) as answer:
        gateway.stop(grace=5)

        assert [json.loads(line)["text"] for line in answer.iter_lines()] == ["line"]


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("?name=nope", 404), ("?name=echo&tail=x", 400), ("?name=echo&since=x", 400)]
)
def test_logs_that_cannot_be_had_are_refused(gateway, http, query, status):
    assert http.get(f"{gateway.url}/system/logs{query}").status_code == status
