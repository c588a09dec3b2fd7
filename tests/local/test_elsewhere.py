"""What is not hosted here does not stop the others, and is called at its URL or at a remote gateway."""

from __future__ import annotations

import base64

import pytest
import requests
import yaml
from pytest_httpserver import HTTPServer

from faasflow.errors import ConfigError
from faasflow.local import load_stack
from faasflow.local.elsewhere import remote_gateway
from tests.support import wait_until

LOGIN = "Basic " + base64.b64encode("admin:p@ss:wörd!".encode()).decode()


@pytest.fixture
def mixed(project):
    """A hosted function, one in another language, and one that is an image."""
    project.function("hello", "def handle(event, context): return 'hi'")
    project.function("resize", "", lang="node20")
    functions = yaml.safe_load(project.stack_file.read_text())["functions"]
    functions["figlet"] = {"image": "ghcr.io/openfaas/figlet"}
    project.stack_file.write_text(yaml.safe_dump({"functions": functions}))
    return project


def test_a_function_that_is_not_hosted_is_answered_502_with_the_way_out_and_the_others_are_served(
    mixed, start_gateway, http
):
    gateway = start_gateway(mixed)
    called, queued = (http.post(f"{gateway.url}/{route}/resize") for route in ("function", "async-function"))

    assert http.get(f"{gateway.url}/function/hello").text == "hi"
    assert (called.status_code, queued.status_code) == (502, 502)
    assert "not hosted here: its lang is 'node20'" in called.text
    assert "stack.local.yml" in called.text
    listed = {entry["name"]: entry["availableReplicas"] for entry in http.get(f"{gateway.url}/system/functions").json()}
    assert listed["resize"] == 0


def test_an_override_calls_a_function_where_it_runs_with_the_login_of_its_url(
    mixed, start_gateway, http, httpserver: HTTPServer
):
    httpserver.expect_request("/base/sub/path", query_string="a=1", method="PUT").respond_with_data("from elsewhere")
    url = httpserver.url_for("/base").replace("://", "://admin:p%40ss%3Aw%C3%B6rd!@")
    (mixed.folder / "stack.local.yml").write_text(f"functions: {{figlet: {{url: '{url}'}}}}")
    gateway = start_gateway(mixed)

    answer = http.put(f"{gateway.url}/function/figlet/sub/path?a=1", data=b"\xff\x00", headers={"X-Mine": "yes"})

    sent = httpserver.log[0][0]
    assert answer.text == "from elsewhere"
    assert (sent.get_data(), sent.headers["X-Mine"], sent.headers["Authorization"]) == (b"\xff\x00", "yes", LOGIN)


def test_a_remote_gateway_is_called_for_whatever_is_not_hosted_with_its_login(
    mixed, start_gateway, http, httpserver: HTTPServer
):
    httpserver.expect_request("/function/resize/").respond_with_data("resized")
    httpserver.expect_request("/function/unknown/").respond_with_data("known there")
    remote = remote_gateway(httpserver.url_for("/").replace("://", "://admin:p%40ss%3Aw%C3%B6rd!@"))
    gateway = start_gateway(mixed, remote=remote)

    answers = [http.post(f"{gateway.url}/function/{name}").text for name in ("hello", "resize", "unknown")]

    assert answers == ["hi", "resized", "known there"]
    assert [sent.headers["Authorization"] for sent, _ in httpserver.log] == [LOGIN, LOGIN]
    assert "p@ss" not in repr(remote)


def test_a_queued_call_is_delivered_to_the_remote_gateway(mixed, start_gateway, http, httpserver: HTTPServer):
    httpserver.expect_request("/function/resize/").respond_with_data("resized")
    gateway = start_gateway(mixed, remote=remote_gateway(httpserver.url_for("/")))

    assert http.post(f"{gateway.url}/async-function/resize", data="image").status_code == 202

    wait_until(lambda: len(httpserver.log) == 1, "the call is delivered")
    assert httpserver.log[0][0].get_data() == b"image"


def test_a_place_that_cannot_be_reached_is_answered_at_once(mixed, start_gateway, http: requests.Session):
    gateway = start_gateway(mixed, remote=remote_gateway("http://me:secret@127.0.0.1:9"))

    answer = http.post(f"{gateway.url}/function/resize", timeout=20)

    assert (answer.status_code, "cannot be reached" in answer.text) == (502, True)
    assert "secret" not in answer.text


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a:port", "http://user:pass word@[::1"])
def test_a_remote_gateway_that_is_no_url_is_refused_without_its_login(url):
    with pytest.raises(ConfigError) as caught:
        remote_gateway(url)

    assert "pass" not in str(caught.value)


def test_up_says_of_each_function_where_its_calls_go(mixed, run_gateway):
    (mixed.folder / "stack.local.yml").write_text("functions: {figlet: {url: 'http://a:b@127.0.0.1:9000'}}")
    mixed.function("gone", "").unlink()
    functions = yaml.safe_load(mixed.stack_file.read_text())["functions"]
    mixed.stack_file.write_text(yaml.safe_dump({"functions": {"figlet": {"image": "figlet"}, **functions}}))

    printed = run_gateway().wait_ready().printed

    assert "  at http://127.0.0.1:9000\n" in printed
    assert "not hosted: its lang is 'node20', and only handlers in" in printed
    assert "broken: it has no handler.py in" in printed
    assert load_stack(mixed.stack_file).functions["hello"].is_hosted
