"""What an engine is made of: its ports and settings, and the few things done with them from several places."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from faasflow import graph
from faasflow.engine.context import Context
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.message import Message, MessageCodec
from faasflow.engine.payload import INLINE_LIMIT, Payload, Payloads
from faasflow.engine.position import StepData, dump_step, load_step
from faasflow.engine.records import dump, load
from faasflow.ports import Clock, DataStore, Forward, StateStore, Transport

PARKED = "parked/"


class _Parked(msgspec.Struct, frozen=True, omit_defaults=True):
    step: StepData
    query: str = ""
    data: Payload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the engine of one flow. `key` signs messages and callbacks; `callback_allow` has patterns of the
    hosts that callbacks may go to, none for any. `call_timeout` is in seconds, `inline_limit` in bytes. What follows a
    recorded step is forwarded again only when it has had no record for `repair_delay` seconds."""

    flow: str
    define: Callable[[Context], graph.Definition]
    state: StateStore
    data: DataStore
    transport: Transport
    clock: Clock
    key: bytes | None = field(default=None, repr=False)
    callback_allow: tuple[str, ...] = ()
    default_method: str = "POST"
    call_timeout: float = 60.0
    inline_limit: int = INLINE_LIMIT
    repair_delay: float = 2.0

    @property
    def codec(self) -> MessageCodec:
        return MessageCodec(self.flow, self.key)

    def ledger(self, request_id: str) -> Ledger:
        """The ledger of one request."""
        return Ledger(self.state, self.flow, request_id)

    def payloads(self, request_id: str) -> Payloads:
        """The values of one request."""
        return Payloads(self.data, self.flow, request_id, limit=self.inline_limit)

    def forward(self, messages: Iterable[Message]) -> None:
        """Sign messages and hand them to the queue; `ForwardError` if it does not take them all."""
        codec, now = self.codec, self.clock.now()
        self.transport.forward(
            [Forward(self.flow, message.request_id, codec.encode(message, now)) for message in messages]
        )

    def park(self, ledger: Ledger, request: StoredRequest, message: Message) -> bool:
        """Keep a message until its paused request is resumed; False if the request has changed since it was read."""
        parked = _Parked(dump_step(message.step), message.query, message.data)
        return ledger.commit(request, create={}, put={PARKED + message.step.key: dump(parked)}).is_done

    def unpark(self, request_id: str, key: str, value: bytes) -> Message:
        """The message that was kept under `key`."""
        parked = load(value, _Parked, key)
        return Message(request_id, load_step(parked.step), parked.query, parked.data)
