"""Forwards through NATS JetStream: they go to a durable stream, from which `faasflow worker` delivers them.

This module owns what both ends have to agree on (the stream, a subject for each flow, the headers of a message) and the
end that sends; `faasflow.transport.worker` is the other one.

The stream is a work queue in files: a message stays until it is acknowledged, for `KEPT` seconds at most, which is how
long its signature is valid. The server is not asked to drop doubles: what is forwarded again on purpose, because it
seems lost, looks like one, and the ledger takes every step once anyway.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from faasflow.errors import ConfigError, ForwardError, TransportError
from faasflow.naming import escape
from faasflow.ports import Forward, OutgoingCall, Response, Transport
from faasflow.sockets import watch

if TYPE_CHECKING:
    from nats.aio.client import Client

logger = logging.getLogger(__name__)

FLOW_HEADER = "Faasflow-Flow"
REQUEST_HEADER = "Faasflow-Request"
KEPT = 7 * 86400.0

_PORT = 4222
_STREAM = "faasflow"
_REPLY_TIMEOUT = 5.0
_PING_INTERVAL, _LOST_PINGS = 1, 2  # a server that vanished without a word is noticed after about 3 seconds
_PUBLISHED_AT_ONCE = 256
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OPTIONS = {"stream", "replicas", "password_file", "token_file", "ca_file", "cert_file", "key_file"}
_FORM = "nats://host:port?stream=faasflow, or tls:// for an encrypted connection"


@dataclass(frozen=True, slots=True)
class Address:
    """The servers, the stream, and how to prove oneself. What the URL leaves out is empty."""

    servers: tuple[str, ...]
    stream: str = _STREAM
    replicas: int = 1
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Address:
        """The address in `nats://[user:password@]host[:port][,host[:port]...][?option=value&...]`.

        The options are `stream`, `replicas` (of a stream that is made here), and files: `password_file`, `token_file`,
        and with `tls://` `ca_file`, `cert_file` and `key_file`. `ConfigError` for any other URL, a file that cannot be
        read, or if `nats-py` is not installed.
        """
        _require_client()
        try:
            return cls._parsed(url)
        except ValueError as exc:
            if isinstance(exc, ConfigError):
                raise
            raise ConfigError(f"The NATS URL {_shown(url)!r} cannot be understood. Use {_FORM}.") from exc

    @classmethod
    def _parsed(cls, url: str) -> Address:
        parts = urlsplit(url)
        given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        options = {name: values[-1] for name, values in given.items()}
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = (unquote(part) for part in login.partition(":"))
        stream, replicas = options.get("stream", _STREAM), int(options.get("replicas", 1))
        if parts.scheme not in ("nats", "tls") or parts.path.strip("/") or parts.fragment:
            raise ValueError
        if options.keys() - _OPTIONS or not _NAME.fullmatch(stream) or not 1 <= replicas <= 5:
            raise ValueError
        return cls(
            servers=tuple(_server(host) for host in hosts.split(",")),
            stream=stream,
            replicas=replicas,
            user=user,
            password=password or _secret(options, "password_file"),
            token=_secret(options, "token_file"),
            tls=_tls(options) if parts.scheme == "tls" else None,
        )

    def __str__(self) -> str:
        return ", ".join(server.partition("//")[2] for server in self.servers)

    @property
    def subjects(self) -> str:
        """What the stream listens to."""
        return f"{self.stream}.forward.*"

    def subject(self, flow: str) -> str:
        """Where the forwards of `flow` go."""
        return f"{self.stream}.forward.{consumer_name(flow)}"


def consumer_name(flow: str) -> str:
    """The consumer of a flow, which is also the last part of its subject: a dot would begin another part."""
    return escape(flow).replace(".", "%2E")


class Link:
    """The connection of one event loop: made when it is first asked for, kept alive, and made anew if it was closed for
    good. It goes on trying for ever; how long to wait for it is up to the caller."""

    def __init__(self, address: Address, *, name: str) -> None:
        self._address = address
        self._name = name
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        self.last_error = ""
        self.losses = 0

    async def client(self) -> Client:
        """The connection, once there is one."""
        task = self._connecting
        if task is None or (task.done() and (task.cancelled() or task.exception() or task.result().is_closed)):
            self._connecting = task = asyncio.create_task(self._connect())
        return await asyncio.shield(task)

    async def ensure_stream(self) -> None:
        """Make the stream unless it is there already; one that an operator made is taken as it is."""
        from nats.js.api import RetentionPolicy, StorageType, StreamConfig
        from nats.js.errors import NotFoundError

        manager = (await self.client()).jsm(timeout=_REPLY_TIMEOUT)
        try:
            await manager.stream_info(self._address.stream)
        except NotFoundError:
            await manager.add_stream(
                StreamConfig(
                    name=self._address.stream,
                    subjects=[self._address.subjects],
                    retention=RetentionPolicy.WORK_QUEUE,
                    storage=StorageType.FILE,
                    max_age=KEPT,
                    num_replicas=self._address.replicas,
                )
            )

    async def close(self) -> None:
        """Send what is still to be sent, and close the connection."""
        task, self._connecting = self._connecting, None
        if task is None:
            return
        while not task.done():
            # Before Python 3.12, a connection that fails at this very moment swallows the cancelling.
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        if not task.cancelled() and not task.exception():
            await _closed(task.result())

    async def _connect(self) -> Client:
        from nats.aio.client import Client

        address = self._address
        # The client's annotation asks for whole seconds, its code does not.
        options: dict[str, Any] = {"reconnect_time_wait": 0.5, **({"tls": address.tls} if address.tls else {})}
        self._client = client = Client()
        try:
            await client.connect(
                list(address.servers),
                name=self._name,
                user=address.user or None,
                password=address.password or None,
                token=address.token or None,
                connect_timeout=2,
                max_reconnect_attempts=-1,
                ping_interval=_PING_INTERVAL,
                max_outstanding_pings=_LOST_PINGS,
                error_cb=self._on_error,
                disconnected_cb=self._on_loss,
                reconnected_cb=self._on_reconnect,
                **options,
            )
        except BaseException:  # it was cancelled: what it had started already must not outlive it
            await client.close()
            raise
        self._watch()
        return client

    async def _on_loss(self) -> None:
        self.losses += 1

    async def _on_reconnect(self) -> None:
        self._watch()

    def _watch(self) -> None:
        """Have the connection's socket notice a lost server, also when what is to be sent fills its buffers."""
        writer = getattr(getattr(self._client, "_transport", None), "_bare_io_writer", None)
        connection = writer.get_extra_info("socket") if writer is not None else None
        if connection is not None:
            watch(connection)

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if text != self.last_error:  # while the server is away, the same comes twice a second
            self.last_error = text
            logger.warning("NATS at %s: %s", self._address, text)


class JetStreamTransport:
    """Calls through another transport, and forwards through JetStream. Thread-safe.

    The connection lives in a thread of its own, one in each process that forwards. A forward that the server did not
    acknowledge within `timeout` seconds is a `ForwardError`; the server may hold it all the same.
    """

    def __init__(self, calls: Transport, address: Address, *, timeout: float = _REPLY_TIMEOUT) -> None:
        self._calls = calls
        self._address = address
        self._timeout = timeout
        self._lock = threading.Lock()
        self._own: _Publisher | None = None

    def function_url(self, name: str) -> str:
        """Where the other transport reaches the function `name`."""
        return self._calls.function_url(name)

    def call(self, call: OutgoingCall) -> Response:
        """Make the call through the other transport."""
        return self._calls.call(call)

    def forward(self, messages: Sequence[Forward]) -> None:
        """Put messages into the stream; see `Transport.forward`."""
        if messages:
            self._publisher.publish(messages)

    def close(self) -> None:
        """Close the connection. Calling it again is fine, and so is using the transport afterwards."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None and own.pid == os.getpid():
            own.close()

    @property
    def _publisher(self) -> _Publisher:
        with self._lock:
            if self._own is None or self._own.pid != os.getpid():
                self._own = _Publisher(self._address, self._timeout)
            return self._own


class _Publisher:
    """A thread with an event loop and its connection; it belongs to the process that made it."""

    def __init__(self, address: Address, timeout: float) -> None:
        self.pid = os.getpid()
        self._address = address
        self._timeout = timeout
        self._link = Link(address, name="faasflow")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jetstream", daemon=True)
        self._thread.start()

    def publish(self, messages: Sequence[Forward]) -> None:
        asyncio.run_coroutine_threadsafe(self._publish(messages), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._link.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _publish(self, messages: Sequence[Forward]) -> None:
        free = asyncio.Semaphore(_PUBLISHED_AT_ONCE)
        tasks = [asyncio.create_task(self._publish_one(message, free)) for message in messages]
        try:
            await asyncio.gather(*tasks)
        finally:
            # One that was refused means that all are sent again: the rest need not try.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish_one(self, message: Forward, free: asyncio.Semaphore) -> None:
        from nats.errors import Error

        async with free:
            try:
                await self._send_in_time(message)
            except (Error, OSError, TimeoutError) as exc:
                raise self._refused(message, exc) from exc

    async def _send_in_time(self, message: Forward) -> None:
        """Send, and once more if the connection was lost meanwhile: the acknowledgement cannot come any more."""
        losses = self._link.losses
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(await self._link.client(), message)
        except TimeoutError:
            if self._link.losses == losses:
                raise
        async with asyncio.timeout(self._timeout):
            await self._send(await self._link.client(), message)

    async def _send(self, client: Client, message: Forward) -> None:
        from nats.js.errors import NoStreamResponseError

        stream = client.jetstream(timeout=self._timeout)
        subject, headers = self._address.subject(message.flow), _headers(message)
        try:
            await stream.publish(subject, message.body, stream=self._address.stream, headers=headers)
        except NoStreamResponseError:
            await self._link.ensure_stream()
            await stream.publish(subject, message.body, stream=self._address.stream, headers=headers)

    def _refused(self, message: Forward, exc: Exception) -> ForwardError:
        reason = f"no acknowledgement within {self._timeout:g} s" if isinstance(exc, TimeoutError) else str(exc)
        last = f" (last error: {self._link.last_error})" if self._link.last_error else ""
        return ForwardError(
            f"A message of request {message.request_id!r} was not queued: {reason}{last}.",
            hint=f"Check that NATS at {self._address} runs with JetStream and has room in {self._address.stream!r}.",
        )


def reach(address: Address, *, timeout: float = _REPLY_TIMEOUT) -> None:
    """Return if a server is there, takes the login and has JetStream; a `TransportError` says why not."""
    asyncio.run(_reach(address, timeout))


async def _reach(address: Address, timeout: float) -> None:
    from nats.errors import Error

    link = Link(address, name="faasflow doctor")
    try:
        async with asyncio.timeout(timeout):
            await (await link.client()).jetstream().account_info()
    except (Error, OSError, TimeoutError) as exc:
        reason = link.last_error or str(exc) or type(exc).__name__
        raise TransportError(
            f"NATS at {address} cannot be used: {reason}.", hint="Check that it runs with JetStream, and the login."
        ) from exc
    finally:
        await link.close()


def _headers(message: Forward) -> dict[str, Any]:
    # Percent-encoded, because a header of NATS is text on one line.
    return {
        FLOW_HEADER: quote(message.flow, safe="", errors="surrogatepass"),
        REQUEST_HEADER: quote(message.request_id, safe="", errors="surrogatepass"),
    }


def _server(host: str) -> str:
    parts = urlsplit(f"nats://{host}")
    if not parts.hostname or parts.port == 0 or parts.path:
        raise ValueError
    return f"nats://{host}" if parts.port else f"nats://{host}:{_PORT}"


def _secret(options: dict[str, str], name: str) -> str:
    path = options.get(name)
    if path is None:
        return ""
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"The {name} {path!r} of a NATS URL cannot be read: {exc}.") from exc
    if not secret:
        raise ConfigError(f"The {name} {path!r} of a NATS URL is empty.")
    return secret


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ca_file"))
        if "cert_file" in options:
            context.load_cert_chain(options["cert_file"], options.get("key_file"))
    except OSError as exc:
        raise ConfigError(f"TLS for NATS cannot be set up: {exc}. Give files in PEM form.") from exc
    return context


def _shown(url: str) -> str:
    """`url` without what may be secret in it."""
    head, separator, rest = url.rpartition("@")
    return f"{head.partition('//')[0]}//…@{rest}" if separator else url


def _require_client() -> None:
    try:
        import nats  # noqa: F401
    except ImportError as exc:
        raise ConfigError("NATS needs the package nats-py. Install it: pip install 'faasflow[nats]'.") from exc


async def _closed(client: Client) -> None:
    """Close, after what is buffered was sent if the server is there to take it."""
    from nats.errors import Error

    try:
        if client.is_connected:
            await client.flush(timeout=1)
    except (Error, OSError):
        pass
    await client.close()
