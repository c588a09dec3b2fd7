"""Delivers the forwards in a JetStream stream to their flows, through the gateway: what `faasflow worker` runs.

Every flow has a consumer of its own, which all workers share, and each worker delivers at most `in_flight` messages of
a flow at a time. A message is pulled only when there is room for it, so that its deadline counts while it is worked on;
the deadline is extended as long as the call runs. It ends after a 2xx, and after a 4xx that asks for no patience: the
same message would be answered the same, and what the flow still needs its clock sends again. After no answer, 408, 429,
502, 503 or 504 it comes again, later and later, until the stream drops it with its signature's end; after any other
answer it comes again as well, `ATTEMPTS` times in all. If a worker dies, its messages come to another one when their
deadline, `ack_wait`, has passed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from faasflow.errors import TransportError
from faasflow.naming import unescape
from faasflow.ports import OutgoingCall, Response, Transport
from faasflow.scope import Scope, entered
from faasflow.transport.jetstream import FLOW_HEADER, REQUEST_HEADER, Address, Link, consumer_name
from faasflow.transport.openfaas import REQUEST_ID_HEADER, forward_path
from faasflow.transport.retry import AGAIN, ATTEMPTS, DELIVERY_HEADER, retry_delay

if TYPE_CHECKING:
    from nats.aio.msg import Msg

logger = logging.getLogger(__name__)

_LOOK_INTERVAL = 0.5
_PULL_EXPIRES = 2.0
_PAUSE = 0.5
_REPLY_TIMEOUT = 5.0
_CALL_TIMEOUT = 3600.0
_LONGEST_DELAY = 300.0
_EXTENSIONS = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How a worker works: `in_flight` deliveries of a flow at a time. A message is taken from a worker that was not
    heard of for `ack_wait` seconds. When it is told to end it finishes what it can in `grace` seconds and gives back
    the rest."""

    in_flight: int = 16
    ack_wait: float = 30.0
    grace: float = 25.0


class Worker:
    """Delivers the forwards of `flows`, or of every flow that has some in the stream, calling through `calls`."""

    def __init__(
        self, address: Address, calls: Transport, *, flows: Iterable[str] = (), limits: Limits | None = None
    ) -> None:
        self._address = address
        self._calls = calls
        self._flows = tuple(flows)
        self._limits = limits or Limits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def run(self) -> None:
        """Deliver until `stop`, or in the main thread SIGTERM or SIGINT; a second signal ends the process at once."""
        asyncio.run(self._run())

    def stop(self) -> None:
        """Let `run` come to its end; from any thread."""
        if self._loop is None:
            self._stopping.set()
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._on_signal, number)
        link, lanes = Link(self._address, name="faasflow worker"), dict[str, _Lane]()
        looking = asyncio.create_task(self._open_lanes(link, lanes))
        stopped = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait({looking, stopped}, return_when=asyncio.FIRST_COMPLETED)
        is_broken = looking in done
        while not looking.done():  # it must open no connection behind the end of this one; a client may swallow this
            looking.cancel()
            await asyncio.wait({looking}, timeout=0.1)
        await asyncio.gather(*(lane.stop() for lane in lanes.values()))
        await link.close()
        if is_broken:
            looking.result()  # a mistake in here: the process ends, and whoever runs it starts another

    async def _open_lanes(self, link: Link, lanes: dict[str, _Lane]) -> None:
        """A lane for each flow, also for those that come up later."""
        while True:
            for name in await self._names(link):
                if name not in lanes:
                    lanes[name] = _Lane(name, link, self._address, self._calls, self._limits)
            for lane in lanes.values():
                lane.check()
            await asyncio.sleep(_LOOK_INTERVAL)

    async def _names(self, link: Link) -> list[str]:
        """The consumers' names of the flows to deliver: those that were named, else those that have messages now."""
        from nats.errors import Error
        from nats.js.errors import NotFoundError

        if self._flows:
            return [consumer_name(flow) for flow in self._flows]
        try:
            manager = (await link.client()).jsm(timeout=_REPLY_TIMEOUT)
            info = await manager.stream_info(self._address.stream, subjects_filter=self._address.subjects)
        except NotFoundError:
            return []
        except (Error, OSError) as exc:
            logger.debug("The stream could not be looked at: %s", exc)
            return []
        return [subject.rpartition(".")[2] for subject in info.state.subjects or {}]

    def _on_signal(self, number: signal.Signals) -> None:
        assert self._loop is not None
        self._loop.remove_signal_handler(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        logger.info("Told to end: finishing what is being delivered.")
        self._stopping.set()


class _Lane:
    """The messages of one flow: pulled one by one while there is room, and delivered side by side."""

    def __init__(self, name: str, link: Link, address: Address, calls: Transport, limits: Limits) -> None:
        self._name = name
        self._link = link
        self._address = address
        self._calls = calls
        self._limits = limits
        self._has_consumer = self._is_stopping = False
        self._changed = asyncio.Event()
        self._delivering: set[asyncio.Task[None]] = set()
        self._pulling = asyncio.create_task(self._pull_all())

    def check(self) -> None:
        """Raise what ended the lane, if something did."""
        if self._pulling.done():
            self._pulling.result()

    async def stop(self) -> None:
        """Pull no more, finish what can be finished in `grace` seconds, and give back the rest."""
        self._is_stopping = True
        self._changed.set()
        # Given back while a pull is under way, a message would come to that pull.
        await asyncio.wait({self._pulling})
        if self._delivering:
            await asyncio.wait(self._delivering, timeout=self._limits.grace)
        late = [*self._delivering]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _pull_all(self) -> None:
        logger.info("Delivering to flow %r, %d at a time.", unescape(self._name), self._limits.in_flight)
        while await self._has_room():
            message = await self._pull()
            if message is not None:
                self._begin(message)

    async def _has_room(self) -> bool:
        """True as soon as another delivery may begin; False when the lane is to stop."""
        while len(self._delivering) >= self._limits.in_flight and not self._is_stopping:
            self._changed.clear()
            await self._changed.wait()
        return not self._is_stopping

    def _begin(self, message: Msg) -> None:
        task = asyncio.create_task(self._deliver(message))
        self._delivering.add(task)
        task.add_done_callback(self._delivering.discard)
        task.add_done_callback(lambda _: self._changed.set())

    async def _pull(self) -> Msg | None:
        """The next message, or none for a moment. A pull that is under way is always waited for: the server may have
        answered it already."""
        from nats.errors import Error, NoRespondersError

        try:
            async with asyncio.timeout(_REPLY_TIMEOUT):
                client = await self._link.client()
            if not self._has_consumer:
                await self._ensure_consumer()
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._address.stream}.{self._name}"
            wish = json.dumps({"batch": 1, "expires": int(_PULL_EXPIRES * 1e9)}).encode()
            # A message comes under its own subject, by which the shared inbox of the new style would not know it.
            answer = await client.request(subject, wish, timeout=_PULL_EXPIRES + 1.0, old_style=True)
        except TimeoutError:  # there is no server, or the pull went to one that is no more
            return None
        except NoRespondersError:  # a stream that was removed, or a server that is not up yet
            await self._pause("its consumer is not there")
        except (Error, OSError) as exc:
            await self._pause(str(exc))
        else:
            return await self._message(answer)
        return None

    async def _message(self, answer: Msg) -> Msg | None:
        """The message in an answer; none where it is a status."""
        status = (answer.headers or {}).get("Status")
        if status is None:
            return answer
        if status not in ("404", "408"):  # those two: there was nothing
            await self._pause(f"the server answered {status}")
        return None

    async def _pause(self, reason: str) -> None:
        logger.debug("Flow %r waits: %s", unescape(self._name), reason)
        self._has_consumer = False
        await asyncio.sleep(_PAUSE)

    async def _ensure_consumer(self) -> None:
        from nats.js.api import AckPolicy, ConsumerConfig
        from nats.js.errors import NotFoundError

        config = ConsumerConfig(
            name=self._name,
            durable_name=self._name,
            filter_subject=f"{self._address.stream}.forward.{self._name}",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._limits.ack_wait,
            max_ack_pending=-1,  # messages that wait for another try count as well, and must not hold up the others
        )
        manager = (await self._link.client()).jsm(timeout=_REPLY_TIMEOUT)
        try:
            await manager.add_consumer(self._address.stream, config)
        except NotFoundError:
            await self._link.ensure_stream()
            await manager.add_consumer(self._address.stream, config)
        self._has_consumer = True

    async def _deliver(self, message: Msg) -> None:
        from nats.errors import Error

        extending = asyncio.create_task(self._extend(message))
        try:
            await self._answered(message)
        except asyncio.CancelledError:
            with suppress(Error, OSError):
                await message.nak()
            raise
        except (Error, OSError) as exc:  # not acknowledged, so it comes again
            logger.warning("An acknowledgement was not sent: %s", exc)
        finally:
            extending.cancel()

    async def _answered(self, message: Msg) -> None:
        """Deliver a message and tell the server what became of it."""
        headers = message.headers or {}
        flow, request_id = (unquote(headers.get(name, "")) for name in (FLOW_HEADER, REQUEST_HEADER))
        if not flow or not request_id:
            logger.error("A message on %s is no forward of a flow; it is dropped.", message.subject)
            return await message.term()
        if self._is_stopping:
            return await message.nak()
        call = self._call_of(flow, request_id, message)
        answer = await _in_thread(lambda: self._attempt(call))
        if isinstance(answer, Response) and answer.is_success:
            return await message.ack()
        tries = message.metadata.num_delivered
        is_over = _is_over(answer, tries)
        _log(flow, request_id, tries, answer, is_over=is_over)
        await (message.term() if is_over else message.nak(_delay(answer, tries)))

    def _call_of(self, flow: str, request_id: str, message: Msg) -> OutgoingCall:
        url = f"{self._calls.function_url(flow)}/flow/{forward_path(request_id)}"
        headers = {"Content-Type": "application/json", REQUEST_ID_HEADER: request_id}
        if message.metadata.num_delivered > 1:
            headers[DELIVERY_HEADER] = str(message.metadata.num_delivered)
        return OutgoingCall("POST", url, headers, [], message.data, _CALL_TIMEOUT, function=flow)

    def _attempt(self, call: OutgoingCall) -> Response | TransportError:
        try:
            return self._calls.call(call)
        except TransportError as error:
            return error

    async def _extend(self, message: Msg) -> None:
        from nats.errors import Error

        while True:
            await asyncio.sleep(self._limits.ack_wait / _EXTENSIONS)
            with suppress(Error, OSError):
                await message.in_progress()


def _is_over(answer: Response | TransportError, tries: int) -> bool:
    """Whether a message is given up."""
    if isinstance(answer, TransportError) or answer.status in AGAIN:
        return False
    return 400 <= answer.status < 500 or tries >= ATTEMPTS


def _delay(answer: Response | TransportError, tries: int) -> float:
    if isinstance(answer, TransportError):
        return retry_delay(tries)
    if answer.status in AGAIN:
        return retry_delay(tries, retry_after=answer.header("Retry-After"))
    return retry_delay(tries, longest=_LONGEST_DELAY)


def _log(flow: str, request_id: str, tries: int, answer: Response | TransportError, *, is_over: bool) -> None:
    level = logging.WARNING
    if isinstance(answer, Response) and answer.status in AGAIN:
        level = logging.DEBUG  # nothing is wrong; the flow asked for a moment
    reason = f"the flow answered {answer.status}" if isinstance(answer, Response) else str(answer)
    with entered(Scope(flow, request_id)):
        logger.log(level, "Delivery %d %s: %s", tries, "is given up" if is_over else "comes again", reason)


async def _in_thread(function: Callable[[], T]) -> T:
    """What `function` returns, from a thread that does not keep the process from ending."""
    loop, done = asyncio.get_running_loop(), asyncio.Future[T]()

    def finish(end: Callable[[Any], None], value: object) -> None:
        if not done.done():
            end(value)

    def work() -> None:
        end: Callable[[Any], None] = done.set_result
        try:
            value: object = function()
        except Exception as exc:
            end, value = done.set_exception, exc
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(finish, end, value)

    threading.Thread(target=work, name="deliver", daemon=True).start()
    return await done
