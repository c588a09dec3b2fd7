"""Delivers queued calls to functions, and their results to callbacks.

A delivery has come through when it was answered 2xx, 3xx, 4xx or 500: asking again would not change that. It is tried
again, later and later, when there was no answer, or 408, 429, 502, 503 or 504; after `ATTEMPTS` it is given up. The
result goes to the callback as a message of its own, taken in the transaction that removes the call, and is retried
alike. A callback that is redirected is posted again, as it is, to where 307 and 308 of the same address point; any
other 3xx did not take it, and it is given up with the new address.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import msgspec

from faasflow.codec import msgpack_decoder
from faasflow.config import redirection
from faasflow.errors import CallTimeoutError, GatewayError, TransportError
from faasflow.local.client import Client, LostAnswerError, Reply, find_header
from faasflow.local.queue import Draft, Message, Queue
from faasflow.local.routing import Router
from faasflow.transport.retry import AGAIN, DELIVERY_HEADER, retry_delay

ATTEMPTS = 50
CALL = "call"
CALLBACK = "callback"

_CALLBACK_TIMEOUT = 30.0
_SAME_AGAIN = (307, 308)
_MOST_REDIRECTS = 5
_LONGEST_LOST_DELAY = 30.0
_QUEUE_BROKEN_DELAY = 1.0
_REPLACED = frozenset(
    ("x-call-id", "x-duration-seconds", "x-function-name", "x-function-status", "x-start-time", "date", "server")
)


class Call(msgspec.Struct, frozen=True):
    """A call of a function that was answered 202. `target` is the path and query behind the function's name."""

    function: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    call_id: str
    callback: str | None = None


class CallbackPost(msgspec.Struct, frozen=True):
    """The result of a call, on its way to whoever asked for it."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended: with an answer, or with the reason why there is none and the status that stands for it."""

    status: int
    reply: Reply | None = None
    reason: str = ""
    is_lost: bool = False
    is_moved: bool = False

    @property
    def is_delivered(self) -> bool:
        return self.reply is not None and self.status not in AGAIN and not self.is_moved

    @property
    def may_change(self) -> bool:
        """Whether what did not come through may do so later."""
        return self.status != HTTPStatus.NOT_FOUND and not self.is_moved

    def __str__(self) -> str:
        return self.reason or f"it answered {self.status}"


class Delivery:
    """The workers that empty a queue. `on_line(name, text)` is told what is given up."""

    def __init__(
        self, queue: Queue, router: Router, client: Client, *, workers: int, on_line: Callable[[str, str], None]
    ) -> None:
        self._queue = queue
        self._router = router
        self._client = client
        self._on_line = on_line
        self._threads = [threading.Thread(target=self._work, name=f"deliver-{n}", daemon=True) for n in range(workers)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, *, until: float) -> bool:
        """Claim no more, and wait for the deliveries in flight until `until` (monotonic); False if some go on."""
        self._queue.stop()
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in started)

    def _work(self) -> None:
        while (message := self._queue.claim()) is not None:
            try:
                self._deliver(message)
            except GatewayError as error:
                # The queue cannot be written, a full disk for instance; it still holds the message.
                self._on_line("gateway", f"faasflow: {error}")
                time.sleep(_QUEUE_BROKEN_DELAY)

    def _deliver(self, message: Message) -> None:
        if message.kind == CALL:
            self._deliver_call(message)
        else:
            self._deliver_callback(message)

    def _deliver_call(self, message: Message) -> None:
        call = msgpack_decoder(Call).decode(message.payload)
        started = time.time()
        outcome = self._call(call, message.tries)
        self._end(message, call.function, outcome, then=_callback(call, outcome, started=started))

    def _deliver_callback(self, message: Message) -> None:
        post = msgpack_decoder(CallbackPost).decode(message.payload)
        outcome = self._post(post, post.url, _MOST_REDIRECTS)
        self._end(message, find_header(post.headers, "X-Function-Name") or "callback", outcome, then=[])

    def _post(self, post: CallbackPost, url: str, redirects: int) -> Outcome:
        outcome = _outcome(
            lambda: self._client.send("POST", url, headers=post.headers, body=post.body, timeout=_CALLBACK_TIMEOUT)
        )
        if outcome.reply is None or not 300 <= outcome.status < 400:
            return outcome
        location = outcome.reply.header("Location")
        target = _same_address(url, location) if outcome.status in _SAME_AGAIN else None
        if target is not None and redirects > 0:
            return self._post(post, target, redirects - 1)
        reason = f"the callback answered {outcome.status}{redirection(url, location, secret_path=True)}"
        return replace(outcome, is_moved=True, reason=reason)

    def _call(self, call: Call, tries: int) -> Outcome:
        function = self._router.find(call.function)
        if function is None:
            return Outcome(404, reason=f"no function {call.function!r} is in the stack any more")
        headers = call.headers
        if tries and function.spec.is_flow:
            headers = [*headers, (DELIVERY_HEADER, str(tries + 1))]
        return _outcome(lambda: self._router.send(function, "POST", call.target, headers=headers, body=call.body))

    def _end(self, message: Message, function: str, outcome: Outcome, *, then: list[Draft]) -> None:
        if outcome.is_delivered:
            self._queue.ack(message, then=then)
        elif outcome.may_change and message.tries + 1 < ATTEMPTS:
            asked = outcome.reply.header("Retry-After") if outcome.reply else ""
            delay = retry_delay(message.tries + 1, retry_after=asked)
            # It may be what ended the process: the others of its function go first.
            self._queue.retry(message, delay=max(delay, lost_delay(message.tries)) if outcome.is_lost else delay)
        else:
            self._queue.bury(message, reason=str(outcome), then=then)
            tries = message.tries + 1
            self._on_line(
                function, f"faasflow: a queued {message.kind} was given up after {tries} deliveries: {outcome}"
            )


def _same_address(url: str, location: str) -> str | None:
    """Where a redirect points to, if that is at the same scheme, host and port."""
    try:
        target = urljoin(url, location).partition("#")[0]
        is_same = bool(location) and urlsplit(target)[:2] == urlsplit(url)[:2]
    except ValueError:
        return None
    return target if is_same else None


def lost_delay(tries: int) -> float:
    """Seconds to wait after a function's process ended during a delivery that had failed `tries` times before."""
    return min(_LONGEST_LOST_DELAY, 2.0 ** min(tries, 10))


def _outcome(send: Callable[[], Reply]) -> Outcome:
    try:
        reply = send()
    except CallTimeoutError as error:
        return Outcome(504, reason=str(error))
    except LostAnswerError as error:
        return Outcome(503, reason=str(error), is_lost=True)
    except (TransportError, GatewayError) as error:
        return Outcome(503, reason=str(error))
    return Outcome(reply.status, reply=reply)


def _callback(call: Call, outcome: Outcome, *, started: float) -> list[Draft]:
    if call.callback is None:
        return []
    answered = outcome.reply.headers if outcome.reply else []
    headers = [(name, value) for name, value in answered if name.lower() not in _REPLACED]
    headers += [
        ("X-Call-Id", call.call_id),
        ("X-Duration-Seconds", f"{time.time() - started:.6f}"),
        ("X-Function-Name", call.function),
        ("X-Function-Status", str(outcome.status)),
        ("X-Start-Time", str(int(started * 1e9))),
    ]
    post = CallbackPost(call.callback, headers, outcome.reply.body if outcome.reply else b"")
    return [Draft(CALLBACK, msgspec.msgpack.encode(post))]
