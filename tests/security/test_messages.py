"""Messages between nodes that are not what the flow sent: each is refused with 400 and logged, and changes nothing."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from faasflow.engine.message import Message, MessageCodec
from faasflow.engine.position import Phase, Position, Step
from faasflow.errors import MessageError
from faasflow.testing import FlowTester
from tests.http.conftest import define_chain
from tests.http.support import KEY, signature
from tests.security.conftest import Attacked

STEP = Step(Position((), "first"), Phase.NODE)
HEAD, MIDDLE = b'{"signature":"', b'","message":'


def sealed(inner: bytes, digits: str) -> bytes:
    return HEAD + digits.encode() + MIDDLE + inner + b"}"


def inner_of(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message)["message"]
    return found


def refused(attacked: Attacked, body: bytes, caplog: pytest.LogCaptureFixture, *, id: str = "r1") -> str:
    """What a message is refused with, and logged; nothing has changed."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "faasflow.http.app"):
        reply = attacked.send(body, id=id)
    [record] = [record for record in caplog.records if record.name == "faasflow.http.app"]

    assert reply.status == 400
    assert attacked.state() == attacked.before
    assert reply.json["error"] in record.getMessage()
    assert repr(id) in record.getMessage()
    return str(reply.json["error"])


def test_the_message_itself_is_taken(attacked: Attacked) -> None:
    assert attacked.send(attacked.message.body).status == 200
    assert attacked.state() != attacked.before


@pytest.mark.parametrize("key", [b"", b"another key", b"faasflow message", KEY])
def test_a_forged_message_is_refused(attacked: Attacked, caplog: pytest.LogCaptureFixture, key: bytes) -> None:
    """Also one that is signed with the secret itself, as everything but messages is."""
    inner = attacked.message.body.partition(MIDDLE)[2][:-1]
    forged = sealed(inner, signature(inner, key=key).partition("=")[2])

    assert "not signed with this flow's key" in refused(attacked, forged, caplog)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("flow", "other"),
        ("request", "r2"),
        ("step", ["node", "second", []]),
        ("expires", 99999999999),
        ("query", "admin=true"),
        ("data", {"text": "other"}),
    ],
)
def test_every_part_of_a_message_is_signed(
    attacked: Attacked, caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    changed = json.dumps({**inner_of(attacked.message.body), name: value}, separators=(",", ":")).encode()
    digits = json.loads(attacked.message.body)["signature"]

    assert "not signed with this flow's key" in refused(attacked, sealed(changed, digits), caplog)


def test_a_message_of_another_version_is_refused(
    attacked: Attacked, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faasflow.engine.message.VERSION", 2)
    newer = MessageCodec("flow", KEY).encode(Message("r1", STEP), attacked.tester.clock.now())
    monkeypatch.undo()

    assert "has version 2; this function reads version 1" in refused(attacked, newer, caplog)


def test_an_expired_message_is_refused(attacked: Attacked, caplog: pytest.LogCaptureFixture) -> None:
    codec = MessageCodec("flow", KEY, lifetime=60)
    old = codec.encode(Message("r1", STEP), attacked.tester.clock.now() - 61)

    assert "has expired" in refused(attacked, old, caplog)


def test_a_message_that_is_replayed_to_another_request_or_flow_is_refused(
    attacked: Attacked, caplog: pytest.LogCaptureFixture
) -> None:
    attacked.tester.engine.start(b"y", request_id="r2")
    attacked.before = attacked.state()
    elsewhere = MessageCodec("other", KEY).encode(Message("r1", STEP), attacked.tester.clock.now())

    assert "is for request 'r1' of flow 'flow'" in refused(attacked, attacked.message.body, caplog, id="r2")
    assert "is for request 'r1' of flow 'other'" in refused(attacked, elsewhere, caplog)


def test_a_message_that_is_replayed_to_its_own_request_changes_nothing(attacked: Attacked) -> None:
    attacked.send(attacked.message.body)
    attacked.tester.drain()
    after = attacked.state()
    replies = [attacked.send(attacked.message.body).status for _ in range(3)]

    assert replies == [200] * 3
    assert attacked.state() == after
    assert attacked.tester.outcome("r1").result == b"x12"


def test_truncated_messages_are_refused(attacked: Attacked, caplog: pytest.LogCaptureFixture) -> None:
    body = attacked.message.body
    for length in random.Random(1).sample(range(len(body)), 25):
        refused(attacked, body[:length], caplog)


def test_bit_flipped_messages_are_refused(attacked: Attacked, caplog: pytest.LogCaptureFixture) -> None:
    body = attacked.message.body
    for bit in random.Random(2).sample(range(8 * len(body)), 50):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(attacked, bytes(flipped), caplog)


def test_no_flipped_bit_goes_unseen() -> None:
    codec, now = MessageCodec("flow", KEY), 1000.0
    body = codec.encode(Message("r1", STEP), now)
    for bit in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MessageError):
            codec.decode(bytes(flipped), "r1", now)


def test_an_oversized_message_is_refused(attacked: Attacked, caplog: pytest.LogCaptureFixture) -> None:
    assert "more than 1048576 bytes" in refused(attacked, attacked.message.body + b" " * 2**20, caplog)


def test_nothing_of_a_refused_message_is_logged_or_answered(
    attacked: Attacked, caplog: pytest.LogCaptureFixture
) -> None:
    body = attacked.message.body.replace(b'"text":"x"', b'"text":"hunter2"')
    said = refused(attacked, body, caplog)

    assert b"hunter2" in body
    assert "hunter2" not in said + caplog.text


DEEP = b'{"v":1,"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ).map(lambda value: json.dumps(value).encode())
)
@example(DEEP)
@example(b'{"v":1,"flow":"flow","request":"r1","step":["node","first",[["a","each","k",5,2]]],"expires":9e18}')
@example(b'{"v":1,"flow":"flow","request":"r1","step":["node","\\ud800",[]],"expires":99999999999}')
def test_whatever_an_unsigned_message_holds_is_refused_as_a_message(inner: bytes) -> None:
    with pytest.raises(MessageError):
        MessageCodec("flow", None).decode(sealed(inner, "0" * 64), "r1", 1000.0)


def test_a_flow_with_a_key_takes_no_message_of_one_without(
    attacked: Attacked, caplog: pytest.LogCaptureFixture
) -> None:
    unsigned = FlowTester(define_chain, key=None)
    unsigned.engine.start(b"x", request_id="r1")

    assert "not signed" in refused(attacked, unsigned.transport.pending[0].body, caplog)
