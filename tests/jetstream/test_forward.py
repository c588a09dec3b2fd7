"""Handing messages to a stream of a real NATS server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from faasflow.errors import ForwardError
from faasflow.ports import Forward, OutgoingCall
from faasflow.transport.jetstream import Address, JetStreamTransport
from faasflow.transport.openfaas import OpenFaasTransport
from tests.jetstream.support import Gateway, Stream
from tests.servers.certificates import Certificates
from tests.servers.nats import NatsServer
from tests.support import free_port, wait_until

MESSAGE = Forward("flow", "r1", b"{}")


def test_forwards_are_in_the_stream_when_forward_returns(stream: Stream) -> None:
    stream.put(b"1", b"2", b"3")

    assert stream.server.messages(stream.name) == 3


def test_a_message_that_is_forwarded_again_on_purpose_is_not_swallowed(stream: Stream) -> None:
    stream.put(b"the same")
    stream.put(b"the same")

    assert stream.server.messages(stream.name) == 2


def test_thousands_of_messages_are_taken_in_one_go(stream: Stream) -> None:
    stream.put(*(b"%d" % number for number in range(2000)))

    assert stream.server.messages(stream.name) == 2000


def test_nothing_to_forward_needs_no_server() -> None:
    transport = _transport(f"nats://127.0.0.1:{free_port()}")
    transport.forward([])
    transport.close()


def test_calls_go_through_the_gateway(stream: Stream, functions: Gateway) -> None:
    transport = JetStreamTransport(OpenFaasTransport(functions.url), stream.address)
    answer = transport.call(OutgoingCall("POST", transport.function_url("upper"), {}, [], b"body", 5.0))

    assert answer.status == 200
    assert functions.seen == [("/function/upper", b"body")]


def test_a_server_that_is_away_is_a_forward_error_in_bounded_time() -> None:
    port = free_port()
    transport = _transport(f"nats://127.0.0.1:{port}", timeout=1.0)
    began = time.monotonic()
    with pytest.raises(ForwardError, match=r"'r1' was not queued: no acknowledgement within 1 s .*Connect call failed"):
        transport.forward([MESSAGE] * 1000)

    assert time.monotonic() - began < 10
    transport.close()


def test_forwards_are_taken_again_when_the_server_is_back(stream: Stream, tmp_path: Path, run_server) -> None:
    server = run_server(NatsServer(tmp_path))
    transport = _transport(server.url, timeout=1.0)
    transport.forward([MESSAGE])
    server.kill()
    with pytest.raises(ForwardError):
        transport.forward([MESSAGE])
    server.start()
    wait_until(lambda: _is_taken(transport), "a forward to be taken")

    assert server.messages("faasflow") >= 2
    transport.close()


def test_a_stream_that_is_full_is_a_forward_error(stream: Stream) -> None:
    transport = _transport(stream.url)
    with pytest.raises(ForwardError, match="maximum payload"):
        transport.forward([Forward("flow", "r1", bytes(2_000_000))])
    transport.close()


def test_a_password_comes_from_a_file(tmp_path: Path, run_server) -> None:
    server = run_server(NatsServer(tmp_path / "server", password="open sesame"))
    (tmp_path / "secret").write_text("open sesame\n")
    host = server.url.removeprefix("nats://")
    transport = _transport(f"nats://worker@{host}?password_file={tmp_path}/secret")
    transport.forward([MESSAGE])
    transport.close()

    assert server.messages("faasflow") == 1


def test_a_wrong_password_is_told_without_being_shown(tmp_path: Path, run_server, caplog) -> None:
    server = run_server(NatsServer(tmp_path, password="open sesame"))
    transport = _transport(server.url.replace("//", "//worker:wrong-one@"), timeout=1.0)
    with pytest.raises(ForwardError, match="last error: ") as raised:
        transport.forward([MESSAGE])
    transport.close()

    assert "Authorization Violation" in caplog.text
    assert "wrong-one" not in f"{raised.value} {raised.value.hint} {caplog.text} {Address.from_url(server.url)!r}"


def test_the_connection_is_encrypted_where_the_url_says_so(
    tmp_path: Path, run_server, certificates: Certificates
) -> None:
    server = run_server(NatsServer(tmp_path, certificates=certificates))
    files = {"ca_file": certificates.authority, "cert_file": certificates.certificate, "key_file": certificates.key}
    transport = _transport(f"{server.url}?{'&'.join(f'{name}={path}' for name, path in files.items())}")
    transport.forward([MESSAGE])
    transport.close()

    assert server.messages("faasflow") == 1


def _transport(url: str, *, timeout: float = 5.0) -> JetStreamTransport:
    return JetStreamTransport(OpenFaasTransport("http://127.0.0.1:1"), Address.from_url(url), timeout=timeout)


def _is_taken(transport: JetStreamTransport) -> bool:
    try:
        transport.forward([MESSAGE])
    except ForwardError:
        return False
    return True
