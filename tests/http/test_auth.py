"""Who may use a flow function when it authenticates its callers."""

from __future__ import annotations

import pytest

from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import contents, deliver_all, signature

ENDPOINTS = [
    ("POST", "/"),
    ("GET", "/"),
    ("POST", "/?wait=1s"),
    ("GET", "/?export-dag=true"),
    ("POST", "/?pause-flow=r1"),
    ("POST", "/?resume-flow=r1"),
    ("POST", "/?stop-flow=r1"),
    ("GET", "/?state=r1"),
    ("POST", "/flow/r1/pause"),
    ("POST", "/flow/r1/resume"),
    ("POST", "/flow/r1/stop"),
    ("GET", "/flow/r1/state"),
    ("GET", "/flow/r1/result"),
    ("GET", "/flow/r1"),
    ("HEAD", "/flow/r1"),
    ("GET", "/flow"),
    ("GET", "/flow/dead-letters"),
    ("POST", "/flow/tick"),
]
WRONG = {
    "none": None,
    "empty": "",
    "another key": signature(key=b"another key"),
    "another body": signature(b"another body"),
    "cut": signature()[:-1],
    "longer": signature() + "0",
    "no method": signature().partition("=")[2],
    "unknown method": "md5=" + signature(method="md5").partition("=")[2],
    "sha1": signature(method="sha1"),
    "not ascii": "sha256=é",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("method", "target"), ENDPOINTS)
def test_nothing_is_done_without_the_right_signature(
    serve: Serve, chain: FlowTester, method: str, target: str, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    chain.engine.start(b"x", request_id="r1")
    before = contents(chain.state)
    given = WRONG[wrong]
    headers = {} if given is None else {"X-Hub-Signature": given}
    reply = serve(chain, authenticate_request=True).send(method, target, headers=headers)

    assert reply.status == 401
    assert "is refused with 401" in caplog.text
    assert method == "HEAD" or "X-Hub-Signature" in reply.json["hint"]
    assert contents(chain.state) == before
    assert len(chain.transport.pending) == 1


@pytest.mark.parametrize(("method", "target"), ENDPOINTS)
def test_a_signed_request_is_answered(serve: Serve, chain: FlowTester, method: str, target: str) -> None:
    chain.engine.start(b"x", request_id="r1")
    client = serve(chain, authenticate_request=True, exec_timeout=0.2)
    reply = client.send(method, target, headers={"X-Hub-Signature": signature()})

    assert reply.status in (200, 202)


def test_the_signature_covers_the_body(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)
    right = client.post("/", b"order", {"X-Hub-Signature": signature(b"order")})
    changed = client.post("/", b"Order", {"X-Hub-Signature": signature(b"order")})

    assert (right.status, changed.status) == (202, 401)


def test_a_chunked_body_can_be_signed(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)
    reply = client.send("POST", "/", iter([b"or", b"der"]), {"X-Hub-Signature": signature(b"order")})

    assert reply.status == 202


def test_messages_between_nodes_carry_their_own_signature(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)
    chain.engine.start(b"x", request_id="r1")
    replies = deliver_all(chain, client)

    assert [reply.status for reply in replies] == [200, 200]
    assert chain.outcome("r1").result == b"x12"


def test_a_forged_message_is_refused(serve: Serve, chain: FlowTester) -> None:
    chain.engine.start(b"x", request_id="r1")
    message = chain.transport.pending.popleft()
    head, _, rest = message.body.partition(b'","message":')
    forged = head[:-64] + b"0" * 64 + b'","message":' + rest
    reply = serve(chain, authenticate_request=True).post("/flow/r1/forward", forged)

    assert (reply.status, "not signed" in reply.json["error"]) == (400, True)


def test_health_needs_no_signature(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)

    assert [client.get(path).status for path in ("/_/health", "/_/ready")] == [200, 200]


def test_an_unknown_path_needs_a_signature_as_well(serve: Serve, chain: FlowTester) -> None:
    assert serve(chain, authenticate_request=True).get("/nowhere").status == 401


def test_sha1_is_taken_where_it_is_allowed_by_name(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True, allow_sha1=True)
    replies = [client.post("/", b"x", {"X-Hub-Signature": signature(b"x", method=name)}) for name in ("sha1", "sha256")]

    assert [reply.status for reply in replies] == [202, 202]


def test_nobody_has_to_sign_when_authentication_is_off(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)

    assert client.post("/", b"x", {"X-Hub-Signature": "sha256=wrong"}).status == 202
