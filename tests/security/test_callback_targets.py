"""Where callbacks may go."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from faasflow.engine.callback import check_target
from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import BadRequestError
from faasflow.ports import OutgoingCall
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock
from faasflow.testing.transport import InProcessTransport

ALLOWED = ("hooks.example.com", "*.team.example.com", "10.0.0.*:8080", "[::1]")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com",
        "https://HOOKS.example.com:8443/path?query#part",
        "https://user:password@hooks.example.com/",
        "http://hooks.example.com./",
        "http://a.team.example.com/",
        "http://a.b.team.example.com/",
        "http://10.0.0.7:8080/",
        "http://[::1]:9/x",
    ],
)
def test_a_host_that_a_pattern_names_may_be_told(url: str) -> None:
    check_target(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://hooks.example.com.evil.com/",
        "http://evil.com/hooks.example.com",
        "http://evil.com?hooks.example.com",
        "http://evil.com#@hooks.example.com",
        "http://hooks.example.com@evil.com/",
        "http://hooks.example.com:80@evil.com/",
        "http://evil.com\\@hooks.example.com/",
        "http://evil.com\t@hooks.example.com/",
        "http://evil.com%2f.team.example.com/",
        "http://\uff45vil.team.example.com/",
        "http://team.example.com/",
        "http://10.0.0.7/",
        "http://10.0.0.7:80801/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::2]/",
        "http://hooksxexample.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "//hooks.example.com/",
        "hooks.example.com",
    ],
)
def test_any_other_target_is_refused(url: str) -> None:
    with pytest.raises(BadRequestError, match="X-Faas-Flow-Callback-Url"):
        check_target(url, ALLOWED)


@pytest.mark.parametrize("url", ["http://anywhere:1/x", "https://user:pw@host/", "http://münchen.example/"])
def test_without_patterns_any_host_may_be_told(url: str) -> None:
    check_target(url, ())


def test_a_refusal_does_not_tell_what_may_be_secret() -> None:
    with pytest.raises(BadRequestError) as raised:
        check_target("https://user:hunter2@evil.com/hunter2?token=hunter2", ALLOWED)

    assert "'evil.com'" in str(raised.value)
    assert "hunter2" not in f"{raised.value!r} {raised.value.hint}"


def test_a_start_with_another_target_is_refused_and_changes_nothing(attack: Any) -> None:
    attacked = attack(callback_allow=("hooks.example.com",))
    reply = attacked.client.post("/", b"x", {"X-Faas-Flow-Callback-Url": "http://evil.com/"})

    assert (reply.status, "callback_allow" in reply.json["hint"]) == (400, True)
    assert attacked.state() == attacked.before


def test_a_target_that_is_no_longer_allowed_is_not_told_and_the_request_says_so() -> None:
    transport = InProcessTransport()
    engine = Engine(parts(transport, callback_allow=("hooks.example.com",)))
    answer = engine.start(b"x", request_id="r1", callback="http://evil.com/")
    nodes: Any = engine.story("r1")["nodes"]
    [told] = [node for node in nodes if node["path"] == "$callback"]

    assert answer.body == b"X"
    assert (told["state"], told["failure"].error_type) == ("FAILED", "BadRequestError")
    assert transport.calls == []


def test_a_callback_that_fails_is_told_without_its_path(httpserver: HTTPServer, caplog: Any) -> None:
    transport = InProcessTransport()
    engine = Engine(parts(transport))
    engine.start(b"x", request_id="r1", callback="http://hooks.example.com/services/hunter2?token=hunter2")
    [call] = transport.calls

    assert isinstance(call, OutgoingCall)
    attempts = str(engine.story("r1")["nodes"])
    assert "'r1' to 'hooks.example.com' was not answered at all" in caplog.text
    assert "was not answered at all" in attempts
    assert "hunter2" not in attempts + caplog.text


def parts(transport: InProcessTransport, **changes: Any) -> Parts:
    return Parts(
        flow="flow",
        define=definer(lambda flow, context: flow.sync_node().modify(bytes.upper)),
        state=MemoryStateStore(),
        data=MemoryDataStore(),
        transport=transport,
        clock=FakeClock(),
        key=b"hunter2",
        **changes,
    )
