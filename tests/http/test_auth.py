"""Who may use a flow function when it authenticates its callers."""

from __future__ import annotations

import pytest

from faasflow.testing import FlowTester
from tests.http.conftest import Serve, define_chain
from tests.http.support import contents, deliver_all, front, served, signature

COMMANDS = [
    *(("POST", f"/?{name}=r1") for name in ("pause-flow", "resume-flow", "stop-flow", "state")),
    *(("GET", f"/?{name}=r1") for name in ("pause-flow", "resume-flow", "stop-flow", "state")),
    ("GET", "/?export-dag=true"),
    ("POST", "/?wait=1s"),
]
# All that nobody has to sign: messages carry a signature of their own, and health is asked for by machines.
OPEN = {("POST", "/flow/r1/forward"), ("GET", "/_/health"), ("GET", "/_/ready")}


def routes() -> list[tuple[str, str]]:
    """Every method and path that the application knows, for a request r1."""
    app = front(FlowTester(define_chain), authenticate_request=True)
    paths = app.url_map.bind("")
    return [
        (method, paths.build(rule.endpoint, dict.fromkeys(rule.arguments, "r1")))
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods)
    ]


# As HEAD and OPTIONS belong to a path that some other method serves, they are open where that is.
OPEN_PATHS = {path for _, path in OPEN}
ENDPOINTS = [*COMMANDS, *((method, path) for method, path in routes() if path not in OPEN_PATHS)]
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
def test_a_signed_request_is_let_through(serve: Serve, chain: FlowTester, method: str, target: str) -> None:
    chain.engine.start(b"x", request_id="r1")
    client = serve(chain, authenticate_request=True, exec_timeout=0.2)
    reply = client.send(method, target, headers={"X-Hub-Signature": signature()})

    # What a route makes of r1 is its own: a running request cannot be retried, and HEAD starts nothing.
    assert reply.status != 401
    assert reply.status < 500


def test_only_what_is_named_here_is_open(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)
    answered = {(method, path) for method, path in routes() if client.send(method, path).status != 401}

    assert {(method, path) for method, path in answered if method not in ("HEAD", "OPTIONS")} == OPEN
    assert {path for _, path in answered} == OPEN_PATHS


def test_a_route_that_is_added_needs_a_signature(chain: FlowTester) -> None:
    app = front(chain, authenticate_request=True)
    app.add_url_rule("/flow/secrets", "secrets", lambda: "all of them", methods=["GET"])
    with served(app) as client:
        replies = [client.get("/flow/secrets", **headers) for headers in ({}, {"X-Hub-Signature": signature()})]

    assert [reply.status for reply in replies] == [401, 200]


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
@pytest.mark.parametrize("form", ["/flow/{id}/{command}", "/?{command}-flow={id}"])
def test_a_control_call_that_is_refused_changes_nothing(
    serve: Serve, chain: FlowTester, command: str, form: str
) -> None:
    chain.engine.start(b"x", request_id="r1")
    chain.engine.start(b"x", request_id="r2")
    chain.engine.pause("r2")
    client = serve(chain, authenticate_request=True)
    before = contents(chain.state), contents(chain.data), [*chain.transport.pending]
    statuses = [
        client.post(form.format(id=id, command=command), body, {"X-Hub-Signature": given} if given else {}).status
        for id in ("r1", "r2")
        for body, given in ((b"", ""), (b"", WRONG["another key"]), (b"other", signature(b"")))
    ]

    assert statuses == [401] * 6
    assert (contents(chain.state), contents(chain.data), [*chain.transport.pending]) == before
    assert [chain.engine.state(id) for id in ("r1", "r2")] == ["RUNNING", "PAUSED"]


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
