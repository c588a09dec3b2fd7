"""Who may use a flow function when it authenticates its callers."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from faasflow.testing import FlowTester
from tests.http.conftest import Serve, define_chain
from tests.http.support import contents, deliver_all, front, served, signature, signed

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
# What only a POST that starts a request may carry.
OF_BODY = {
    "another key": signature(key=b"another key"),
    "another body": signature(b"another body"),
    "cut": signature()[:-1],
    "longer": signature() + "0",
    "no method": signature().partition("=")[2],
    "unknown method": "md5=" + signature(method="md5").partition("=")[2],
    "sha1": signature(method="sha1"),
    "not ascii": "sha256=é",
}
NO_COMMAND = ("POST", "/?wait=1s")
WHOLE = "X-Faas-Flow-Signature"
AN_HOUR = 3600


def wrong(method: str, target: str) -> dict[str, dict[str, str]]:
    """Signatures that are no use for a request, by what is wrong with them."""
    path, _, query = target.partition("?")
    other = "GET" if method == "POST" else "POST"
    right = signed(method, target)[WHOLE]
    time, _, digest = right.partition(",v1=")
    return {
        "none": {},
        "empty": {WHOLE: ""},
        "another key": signed(method, target, key=b"another key"),
        "another flow": signed(method, target, flow="other"),
        "another method": signed(other, target),
        "another path": signed(method, f"/flow/r2{path}{'?' * bool(query)}{query}"),
        "another query": signed(method, f"{path}?{query}&a=b"),
        "no query": signed(method, path if query else f"{path}?node=x"),
        "another body": signed(method, target, b"x"),
        "old": signed(method, target, age=301),
        "ahead": signed(method, target, age=-AN_HOUR),
        "another time": {WHOLE: f"t={int(time[2:]) + 1},v1={digest}"},
        "cut": {WHOLE: right[:-1]},
        "longer": {WHOLE: right + "0"},
        "no time": {WHOLE: f"v1={digest}"},
        "twice": {WHOLE: f"{right},{right}"},
        "not ascii": {WHOLE: "t=1,v1=é"},
        "the key itself": {WHOLE: f"{time},v1={signature().partition('=')[2]}"},
    }


@pytest.mark.parametrize("is_strict", [False, True], ids=["true", "strict"])
@pytest.mark.parametrize(("method", "target"), ENDPOINTS)
def test_nothing_is_done_without_the_right_signature(
    serve: Serve, chain: FlowTester, method: str, target: str, is_strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    chain.engine.start(b"x", request_id="r1")
    before = contents(chain.state)
    client = serve(chain, authenticate_request=True, signs_starts_whole=is_strict)
    given = wrong(method, target) | {f"body: {name}": {"X-Hub-Signature": text} for name, text in OF_BODY.items()}
    if is_strict or (method, target) not in (NO_COMMAND, ("POST", "/")):
        given |= {"a signed body": {"X-Hub-Signature": signature()}}
    replies = {name: client.send(method, target, headers=headers) for name, headers in given.items()}

    assert {name: reply.status for name, reply in replies.items()} == dict.fromkeys(given, 401)
    assert caplog.text.count("is refused with 401") == len(given)
    assert method == "HEAD" or all("X-Faas-Flow-Signature: t=" in reply.json["hint"] for reply in replies.values())
    assert contents(chain.state) == before
    assert len(chain.transport.pending) == 1


@pytest.mark.parametrize("is_strict", [False, True], ids=["true", "strict"])
@pytest.mark.parametrize(("method", "target"), ENDPOINTS)
def test_a_signed_request_is_let_through(
    serve: Serve, chain: FlowTester, method: str, target: str, is_strict: bool
) -> None:
    chain.engine.start(b"x", request_id="r1")
    client = serve(chain, authenticate_request=True, signs_starts_whole=is_strict, exec_timeout=0.2)
    reply = client.send(method, target, headers=signed(method, target))

    # What a route makes of r1 is its own: a running request cannot be retried, and HEAD starts nothing.
    assert reply.status != 401
    assert reply.status < 500


@pytest.mark.parametrize("target", ["/", "/?wait=1ms", "/?anything=1"])
def test_a_start_may_be_signed_by_its_body_alone_unless_the_setting_is_strict(
    serve: Serve, chain: FlowTester, target: str
) -> None:
    of_body = {"X-Hub-Signature": signature(b"order")}
    clients = [serve(chain, authenticate_request=True, signs_starts_whole=is_strict) for is_strict in (False, True)]
    replies = [client.post(target, b"order", of_body) for client in clients]
    either = [
        clients[0].post(target, b"order", of_body | signed("POST", target, b"order", age=AN_HOUR)),
        clients[0].post(target, b"order", {"X-Hub-Signature": "sha256=0"} | signed("POST", target, b"order")),
    ]

    assert [reply.status for reply in replies] == [202, 401]
    assert [reply.status for reply in either] == [202, 202]


def test_a_start_by_get_is_signed_as_a_whole(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)

    assert client.get("/", **{"X-Hub-Signature": signature()}).status == 401
    assert client.get("/", **signed("GET", "/")).status == 202


@pytest.mark.parametrize("age", [299, -290])
def test_clocks_may_differ_by_five_minutes(serve: Serve, chain: FlowTester, age: float) -> None:
    client = serve(chain, authenticate_request=True)

    assert client.get("/flow", **signed("GET", "/flow", age=age)).status == 200


def test_an_old_signature_is_refused_with_its_age(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)
    old, ahead = (client.get("/flow", **signed("GET", "/flow", age=age)).json["error"] for age in (AN_HOUR, -AN_HOUR))

    assert re.fullmatch(r"The request was signed 360\d s ago; 300 s are accepted\.", old)
    assert re.fullmatch(r"The request was signed (3599|3600) s ahead of the clock; 300 s are accepted\.", ahead)


@pytest.mark.parametrize(
    "sent", ["/flow/a%2Fb%20%C3%A9/stop", "/flow/a/b%20%c3%a9/stop", "/flow/%61%2fb%20%C3%A9/stop"]
)
def test_a_path_that_a_proxy_encoded_anew_is_the_same(serve: Serve, chain: FlowTester, sent: str) -> None:
    chain.engine.start(b"x", request_id="a/b é")
    client = serve(chain, authenticate_request=True)
    reply = client.post(sent, b"", signed("POST", "/flow/a/b%20%C3%A9/stop"))

    assert (reply.status, chain.engine.state("a/b é")) == (200, "STOPPED")


@pytest.mark.parametrize("body", [b"", b"x", b"\xff\x00" * 1_000_000], ids=["empty", "one byte", "large"])
def test_a_body_that_was_checked_is_read_whole(serve: Serve, chain: FlowTester, body: bytes) -> None:
    client = serve(chain, authenticate_request=True, signs_starts_whole=True)
    reply = client.post("/", body, signed("POST", "/", body) | {"X-Faas-Flow-Reqid": "r1"})
    deliver_all(chain, client)

    assert reply.status == 202
    assert chain.outcome("r1").result == body + b"12"


def test_a_wrongly_signed_body_is_never_held_whole(chain: FlowTester) -> None:
    size, app = 50_000_000, front(chain, authenticate_request=True)
    with served(app, max_body=size) as client:
        client.post("/", b"x" * 100, {"X-Hub-Signature": "sha256=junk"})
        body = b"x" * size
        tracemalloc.start()
        try:
            replies = [
                client.post("/", body, headers)
                for headers in ({"X-Hub-Signature": "sha256=junk"}, signed("POST", "/", b"other"))
            ]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert [reply.status for reply in replies] == [401, 401]
    assert peak < 10_000_000


def test_only_what_is_named_here_is_open(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, authenticate_request=True)
    answered = {(method, path) for method, path in routes() if client.send(method, path).status != 401}

    assert {(method, path) for method, path in answered if method not in ("HEAD", "OPTIONS")} == OPEN
    assert {path for _, path in answered} == OPEN_PATHS


def test_a_route_that_is_added_needs_a_signature(chain: FlowTester) -> None:
    app = front(chain, authenticate_request=True)
    app.add_url_rule("/flow/secrets", "secrets", lambda: "all of them", methods=["GET"])
    with served(app) as client:
        replies = [client.get("/flow/secrets", **headers) for headers in ({}, signed("GET", "/flow/secrets"))]

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
        client.post(form.format(id=id, command=command), body, given).status
        for id in ("r1", "r2")
        for body, given in ((b"", {}), (b"", {"X-Hub-Signature": signature()}), (b"other", signed("POST", "/")))
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
