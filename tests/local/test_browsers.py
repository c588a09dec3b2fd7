"""Pages of other sites, in a browser of this machine, start nothing and read nothing; other clients are let alone."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from faasflow.local.browsers import is_host_name
from tests.local.support import lines
from tests.support import wait_until

CALLED = """
import pathlib

def handle(event, context):
    with open(pathlib.Path(__file__).parent / "calls", "a") as file:
        file.write("call\\n")
    return {"body": event.headers.get("Origin", "")}
"""
FLOW = """
def define(flow, context):
    flow.sync_node().modify(bytes.upper)
"""
SECRET = "faasflow-hmac-secret"


def ask(url, target="/function/fn", method="POST", **headers):
    """The status and text of an answer to exactly these headers; `PORT` stands for the gateway's."""
    port = urlsplit(url).port
    given = {name.replace("_", "-"): value.replace("PORT", str(port)) for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"Host": f"127.0.0.1:{port}"} | given).items():
        connection.putheader(name, value)
    connection.endheaders()
    with closing(connection):
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def served(project, start_gateway):
    """A gateway with a function and a flow, and what was called."""
    handler = project.function("fn", CALLED)
    project.function("shout", FLOW, lang="faas-flow", secrets=[SECRET])

    def start(**options):
        gateway = start_gateway(project, **options)
        return gateway, lambda: lines(handler.with_name("calls"))

    return start


FOREIGN_HOSTS = ["evil.test", "evil.test:PORT", "127.0.0.1.evil.test:PORT", "localhost.evil.test", "", "localhost@evil"]
OWN_HOSTS = ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST", "[::1]:PORT", "192.168.1.5:9000", "127.0.0.1"]
FOREIGN = {
    "form": {"Origin": "http://evil.test", "Sec_Fetch_Site": "cross-site"},
    "sandbox": {"Origin": "null", "Sec_Fetch_Site": "cross-site"},
    "image": {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "image"},
    "image with referrer": {"Sec_Fetch_Site": "cross-site", "Referer": "http://evil.test/page"},
    "link": {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    "another port": {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site"},
    "another local name": {"Origin": "http://localhost:1", "Sec_Fetch_Site": "cross-site"},
    "old browser": {"Origin": "http://evil.test"},
    "old browser, image": {"Referer": "http://evil.test/127.0.0.1:PORT"},
    "old browser, sandbox": {"Origin": "null"},
    "forged name": {"Origin": "http://127.0.0.1:PORT@evil.test"},
    "unknown word": {"Sec_Fetch_Site": "anything"},
}
OWN = {
    "no browser": {},
    "typed": {"Sec_Fetch_Site": "none"},
    "own page": {"Sec_Fetch_Site": "same-origin", "Origin": "http://127.0.0.1:PORT"},
    "old browser": {"Origin": "http://127.0.0.1:PORT"},
    "old browser, image": {"Referer": "http://127.0.0.1:PORT/function/fn?a=b"},
    "own page by another name": {"Sec_Fetch_Site": "cross-site", "Origin": "http://localhost:PORT"},
}


@pytest.mark.parametrize("target", ["/function/fn", "/async-function/fn", "/function/shout", "/system/functions", "/"])
def test_a_foreign_name_of_this_machine_reaches_nothing(served, target):
    gateway, calls = served()
    answers = [ask(gateway.url, target, method, Host=host) for host in FOREIGN_HOSTS for method in ("GET", "POST")]

    assert [status for status, _ in answers] == [421] * len(answers)
    assert "faasflow up --allow-host evil.test" in answers[0][1]
    assert calls() == []
    assert len(gateway.queue) == 0


def test_addresses_and_localhost_are_names_of_the_gateway(served):
    gateway, calls = served()
    answers = [ask(gateway.url, Host=host) for host in OWN_HOSTS]

    assert [status for status, _ in answers] == [200] * len(OWN_HOSTS)
    assert len(calls()) == len(OWN_HOSTS)


@pytest.mark.parametrize("sent", FOREIGN)
def test_a_page_of_another_site_starts_and_reads_nothing(served, sent):
    gateway, calls = served()
    targets = ["/function/fn", "/async-function/fn", "/function/shout", "/system/logs?name=fn"]
    answers = [ask(gateway.url, target, method, **FOREIGN[sent]) for target in targets for method in ("GET", "POST")]

    assert [status for status, _ in answers] == [403] * len(answers)
    assert "--allow-host" in answers[0][1]
    assert calls() == []
    assert len(gateway.queue) == 0


@pytest.mark.parametrize("sent", OWN)
def test_own_pages_and_clients_that_are_no_browsers_are_served(served, sent):
    gateway, calls = served()
    answers = [ask(gateway.url, method=method, **OWN[sent]) for method in ("GET", "POST")]

    assert [status for status, _ in answers] == [200, 200]
    assert calls() == ["call", "call"]


def test_a_name_that_is_allowed_is_served_and_its_pages_may_call(served):
    gateway, _ = served(allow_hosts=["flows.test"])
    page = {"Origin": "https://flows.test", "Sec_Fetch_Site": "cross-site"}
    answers = [ask(gateway.url, Host="Flows.Test:PORT"), ask(gateway.url, **page), ask(gateway.url, Host="other.test")]

    assert [status for status, _ in answers] == [200, 200, 421]
    assert answers[1][1] == "https://flows.test"


def test_a_queued_call_of_an_allowed_page_is_delivered(served):
    gateway, calls = served(allow_hosts=["flows.test"])
    status, _ = ask(gateway.url, "/async-function/fn", Origin="http://flows.test", Sec_Fetch_Site="cross-site")
    wait_until(lambda: calls() == ["call"], "the queued call is delivered")

    assert status == 202


@pytest.mark.parametrize("name", ["fn", "shout"])
def test_the_port_of_a_function_is_guarded_as_well(served, name):
    gateway, calls = served()
    assert gateway.start_functions() == {}
    with gateway._supervisor.functions[name].use() as url:
        foreign = [ask(url, "/", "GET", **FOREIGN[sent]) for sent in FOREIGN]
        rebound = [ask(url, "/", Host=host, X_Call_Id="1") for host in FOREIGN_HOSTS]
        preflight = ask(url, "/", "OPTIONS", Origin="http://evil.test", Access_Control_Request_Headers="x-call-id")
        own = ask(url, "/")

    assert [status for status, _ in foreign] == [403] * len(foreign)
    assert [status for status, _ in rebound] == [421] * len(rebound)
    assert preflight[0] == 403
    assert (own[0], len(calls())) == (200, int(name == "fn"))
    assert "through its gateway" in foreign[0][1]


def test_a_host_that_is_given_twice_is_refused(served):
    gateway, calls = served()
    with socket.create_connection(("127.0.0.1", urlsplit(gateway.url).port), timeout=30) as connection:
        connection.sendall(b"GET /function/fn HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n")
        answer = connection.recv(1000)

    assert answer.startswith(b"HTTP/1.1 421 ")
    assert calls() == []


@pytest.mark.parametrize("text", ["flows.test", "flows", "192.168.1.5", "[::1]", "Flows.Test"])
def test_a_host_name_is_told(text):
    assert is_host_name(text)


@pytest.mark.parametrize(
    "text", ["", "http://flows.test", "flows.test:80", "flows.test:8080", "a/b", "a b", "a@b", "a,b"]
)
def test_what_is_no_host_name_is_told(text):
    assert not is_host_name(text)
