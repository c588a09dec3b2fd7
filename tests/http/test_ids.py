"""Request ids of any text, in headers and in paths."""

from __future__ import annotations

import http.client
import json
from contextlib import closing

import pytest

from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import Client, deliver_all, segment

IDS = [
    "..",
    ".",
    "a/b",
    "/a",
    "a/",
    "a//b",
    "../../etc",
    "%2f",
    "%252F",
    "%",
    "a b",
    "a?b=c#d",
    "a;b,c",
    "état",
    "😀",
    "a/state",
    "x/pause",
    "state",
    "flow",
    "-",
    "~tilde",
    "x" * 200,
    "🚀" * 100,
]


@pytest.mark.parametrize("id", IDS)
def test_every_route_knows_an_id_of_any_text(serve: Serve, chain: FlowTester, id: str) -> None:
    client = serve(chain)
    path = f"/flow/{segment(id)}"
    started = client.start(b"x", id=id)
    paused = client.post(f"{path}/pause")
    resumed = client.post(f"{path}/resume")
    forwards = deliver_all(chain, client)

    assert (started.status, started.json["request_id"]) == (202, id)
    assert (paused.status, paused.body.decode()) == (200, f"Successfully paused request {id}")
    assert (resumed.status, resumed.body.decode()) == (200, f"Successfully resumed request {id}")
    assert [reply.status for reply in forwards] == [200, 200]
    assert client.get(f"{path}/state").body == b"FINISHED"
    assert client.get(f"{path}/result").body == b"x12"
    assert client.get(path).json["request_id"] == id
    assert client.get(f"/?state={segment(id)}").body == b"FINISHED"
    assert client.post(f"{path}/stop").json["request_id"] == id


def test_an_id_that_is_given_twice_is_refused_by_name(serve: Serve, chain: FlowTester) -> None:
    port = serve(chain).port
    for second in ("b", "a"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/")
        for name, value in (("X-Faas-Flow-Reqid", "a"), ("x-faas-flow-reqid", second), ("Content-Length", "0")):
            connection.putheader(name, value)
        connection.endheaders()
        with closing(connection):
            answer = connection.getresponse()
            told = json.load(answer)

        assert answer.status == 400
        assert told["error"] == "The header X-Faas-Flow-Reqid is given more than once. Send it once."
    assert chain.engine.requests(limit=9).rows == []


@pytest.mark.parametrize("id", ["a/b", "a//b", "a/state/b"])
def test_an_id_with_slashes_survives_a_proxy_that_decodes_paths(serve: Serve, chain: FlowTester, id: str) -> None:
    client = serve(chain)
    client.start(id=id)

    assert client.get(f"/flow/{id}/state").body == b"RUNNING"
    assert client.get(f"/flow/{id}").json["request_id"] == id


def test_a_message_may_name_its_request_in_the_query(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="../a")
    message = chain.transport.pending.popleft()
    reply = client.post("/flow/-/forward?id=..%2Fa", message.body)

    assert reply.status == 200
    assert len(client.get("/flow/..%2Fa").json["nodes"]) == 1


def test_an_id_is_answered_in_a_header_that_any_client_can_read(shout: Client) -> None:
    reply = shout.start(id="😀 ü%")

    assert reply.headers["x-faas-flow-reqid"] == "%F0%9F%98%80 %C3%BC%"


def test_an_id_in_latin_1_is_the_same_as_in_utf_8(shout: Client) -> None:
    shout.start(b"x", id="état")
    again = shout.post("/", b"x", {"X-Faas-Flow-Reqid": "état".encode("latin-1")})

    assert again.status == 200
    assert shout.get("/flow/%e9tat/state").body == b"FINISHED"


def test_a_request_line_may_hold_a_whole_url(shout: Client) -> None:
    shout.start(id="a/b")

    assert shout.get(f"http://127.0.0.1:{shout.port}/flow/a%2Fb/state?x=1").body == b"FINISHED"
