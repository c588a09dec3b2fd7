"""The seam on which everything stands that watches requests and takes no part in them: tracing, and a handler's own
metrics or notifications.

The events are those of Faas-flow's `EventHandler`. Two mean more here than there: `report_request_end` comes once, at
the end of the request and not of every hop, and `flush` comes at the end of every delivery.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, at `time` (seconds since the epoch).

    `node` is the path of a node, `phase` what of it: `node`, or of a node with branches `split` and `join`. `operation`
    names a function, URL or piece of code, without what may be secret in it; where it begins with a call, `method` and
    `url` are those of the call, without its query, and `properties` are what a custom operation shows of itself.
    `state` is that of the request or node after the event, `error` what a failure came from. An outcome that is not
    `is_recorded` came too late and counts no more. Nothing here says what a request works on.

    `headers` carries a trace across processes. At `report_request_start` they are those of the caller, at
    `report_execution_continuation` what was put in when the message was sent; what is put into those of
    `report_execution_forward` travels with the message, into those of `report_operation_start` with the call.
    """

    flow: str
    request_id: str
    time: float
    node: str = ""
    phase: str = "node"
    operation: str = ""
    method: str = ""
    url: str = ""
    attempt: int = 1
    state: str = ""
    is_recorded: bool = True
    error: BaseException | None = None
    properties: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class EventHandler:
    """Is told what happens to requests; does nothing. Subclasses override what they want to know.

    Methods are called by many threads, in the time of the request, and must not block. What one raises is logged and
    changes nothing. The same thing may be told twice, as a step may run twice: `is_recorded` is told once.
    """

    def init(self) -> None:
        """The process is about to serve."""

    def configure(self, flow: str, request_id: str) -> EventHandler:
        """Who is told of one delivery, from its first event to `flush`; this handler, unless it keeps something for
        each."""
        return self

    def report_request_start(self, event: Event) -> None:
        """A request is accepted, though not recorded yet: the same start may have come before, which is told as an end
        that is not recorded."""

    def report_request_end(self, event: Event) -> None:
        """A request is FINISHED or STOPPED."""

    def report_request_failure(self, event: Event) -> None:
        """A request is FAILED."""

    def report_execution_forward(self, event: Event) -> None:
        """A message that asks for `node` is about to be sent."""

    def report_execution_continuation(self, event: Event) -> None:
        """A message that asks for `node` has come, and its step is to be run."""

    def report_node_start(self, event: Event) -> None:
        """An attempt at a node begins."""

    def report_node_end(self, event: Event) -> None:
        """A node is FINISHED."""

    def report_node_failure(self, event: Event) -> None:
        """An attempt at a node has failed; with the state RETRYING another one follows."""

    def report_operation_start(self, event: Event) -> None:
        """An operation of a node begins."""

    def report_operation_end(self, event: Event) -> None:
        """An operation has succeeded."""

    def report_operation_failure(self, event: Event) -> None:
        """An operation has failed."""

    def flush(self) -> None:
        """The delivery is over. A node that was started and did not end is run again by another delivery."""

    def close(self) -> None:
        """The process ends. Whatever is kept is to be delivered now, within a few seconds."""
