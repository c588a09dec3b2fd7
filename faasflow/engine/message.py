"""The message that asks for one step, signed as a whole.

On the wire: `{"signature":"<64 hex digits>","message":{…}}`. The signature is the HMAC-SHA256 of the exact text of
the inner object, which names version, flow, request, step, data and expiry. Its key is made from the flow's for this
purpose only, so that nothing else that is signed with the secret can pass for a message. Without a key
(`validate_request=false`) it is 64 zeros.
"""

from __future__ import annotations

import hmac

import msgspec

from faasflow.codec import json_decoder
from faasflow.engine.payload import Payload
from faasflow.engine.position import Step, StepData, dump_step, load_step
from faasflow.engine.records import Life, RequestRecord
from faasflow.errors import MessageError

VERSION = 1
_HEAD = b'{"signature":"'
_MIDDLE = b'","message":'
_DIGITS = 64
_PURPOSE = b"faasflow message"


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    v: int
    flow: str
    request: str
    step: StepData
    expires: int
    query: str = ""
    data: Payload | None = None
    attempt: int = 1
    run: int = 0
    trace: dict[str, str] = {}
    incarnation: str = ""
    put: float = 0.0
    sender: str = ""
    again: bool = False


class Message(msgspec.Struct, frozen=True):
    """Asks for `step` of `request_id`. `query` is that of the start. `data` spares reading the one value that the step
    works on; without it, it is read from the ledger. `attempt` counts from 1. `life` is that of the request: what was
    sent before the request went on after a failure, or by an earlier request with the same id, counts no more. `trace`
    is what event handlers sent along. With `is_again` the step may have been forwarded before. `put` is when the
    message was handed to the queue, by the clock of `sender`, the engine that did so."""

    request_id: str
    step: Step
    query: str = ""
    data: Payload | None = None
    attempt: int = 1
    life: Life = Life()
    trace: dict[str, str] = {}
    is_again: bool = False
    put: float = 0.0
    sender: str = ""


def message_for(
    request_id: str, record: RequestRecord, step: Step, *, attempt: int = 1, is_again: bool = False
) -> Message:
    """A message that asks for `step` of a request as it is recorded now; its data are read from the ledger."""
    return Message(request_id, step, record.query, attempt=attempt, life=record.life, is_again=is_again)


class MessageCodec:
    """Writes and verifies the messages of one flow. `lifetime` is in seconds; `key=None` leaves signatures out.
    `sender` names the engine that messages are written for."""

    def __init__(self, flow: str, key: bytes | None, *, lifetime: float = 7 * 86400, sender: str = "") -> None:
        self._flow = flow
        self._sender = sender
        self._key = hmac.new(key, _PURPOSE, "sha256").digest() if key is not None else None
        self._lifetime = lifetime

    def encode(self, message: Message, now: float, *, put: float | None = None) -> bytes:
        """The signed text of `message`; `put` is `now` by the sender's own clock, if that differs."""
        wire = _Wire(
            v=VERSION,
            flow=self._flow,
            request=message.request_id,
            step=dump_step(message.step),
            expires=int(now + self._lifetime),
            query=message.query,
            data=message.data,
            attempt=message.attempt,
            run=message.life.run,
            trace=message.trace,
            incarnation=message.life.incarnation,
            put=round(now if put is None else put, 3),
            sender=self._sender,
            again=message.is_again,
        )
        body = msgspec.json.encode(wire)
        return _HEAD + self._sign(body) + _MIDDLE + body + b"}"

    def decode(self, data: bytes, request_id: str, now: float) -> Message:
        """The message in `data`. `MessageError` if it is malformed, altered, expired, of another version, or meant for
        another flow or request."""
        body = self._verified(data)
        try:
            wire = json_decoder(_Wire).decode(body)
        except (ValueError, RecursionError) as error:
            raise MessageError(f"The message cannot be read: {error}.") from error
        if wire.v != VERSION:
            raise MessageError(f"The message has version {wire.v}; this function reads version {VERSION}.")
        if (wire.flow, wire.request) != (self._flow, request_id):
            raise MessageError(f"The message is for request {wire.request!r} of flow {wire.flow!r}.")
        if now > wire.expires:
            raise MessageError("The message has expired.")
        step = load_step(wire.step)
        return Message(
            wire.request,
            step,
            wire.query,
            wire.data,
            wire.attempt,
            Life(wire.incarnation, wire.run),
            wire.trace,
            wire.again,
            wire.put,
            wire.sender,
        )

    def _verified(self, data: bytes) -> bytes:
        signature_end = len(_HEAD) + _DIGITS
        head, signature = data[: len(_HEAD)], data[len(_HEAD) : signature_end]
        body_start = signature_end + len(_MIDDLE)
        if head != _HEAD or data[signature_end:body_start] != _MIDDLE or not data.endswith(b"}"):
            raise MessageError("The message is not in the form of a faasflow message.")
        body = data[body_start:-1]
        if self._key is not None and not hmac.compare_digest(signature, self._sign(body)):
            raise MessageError("The message is not signed with this flow's key.")
        return body

    def _sign(self, body: bytes) -> bytes:
        if self._key is None:
            return b"0" * _DIGITS
        return hmac.new(self._key, body, "sha256").hexdigest().encode()
