"""A NATS server that vanishes without FIN and RST, while connections to it are kept."""

from __future__ import annotations

import threading
import time

from faasflow.ports import Forward
from faasflow.transport.jetstream import Address, JetStreamTransport
from faasflow.transport.openfaas import OpenFaasTransport
from tests.jetstream.support import Gateway, Stream
from tests.servers.link import Link
from tests.servers.relay import Relay
from tests.support import wait_until


def url_behind(link: Link, relay: Relay, stream: Stream) -> str:
    return f"nats://{link.appear(2)}:{relay.port}?stream={stream.name}"


def test_a_message_is_queued_once_the_server_is_back(stream: Stream) -> None:
    with Link() as link, Relay(stream.server.port, link.listener()) as relay:
        transport = JetStreamTransport(
            OpenFaasTransport("http://127.0.0.1:9"), Address.from_url(url_behind(link, relay, stream))
        )
        transport.forward([Forward("flow", "r1", b"before")])
        link.vanish()
        back = threading.Timer(4.0, link.appear, [2])
        back.start()
        started = time.monotonic()
        transport.forward([Forward("flow", "r1", b"after")])
        spent = time.monotonic() - started
        back.join()
        transport.close()

    assert stream.server.messages(stream.name) == 2
    assert spent < 12


def test_a_worker_delivers_again_once_the_server_is_back(stream: Stream, functions: Gateway) -> None:
    with Link() as link, Relay(stream.server.port, link.listener()) as relay:
        url = url_behind(link, relay, stream)
        stream.put(b"before")
        with stream.worker(functions, url=url):
            wait_until(lambda: functions.bodies == [b"before"], "the first delivery")
            link.vanish()
            stream.put(b"after")
            link.appear(2)
            wait_until(lambda: functions.bodies[1:] == [b"after"], "the second delivery", timeout=30)
