"""A gateway behind HTTPS."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from faasflow.errors import ForwardError, NoAnswerError, TransportError
from faasflow.ports import Forward, OutgoingCall
from faasflow.transport.openfaas import OpenFaasTransport
from tests.support import free_port


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that is its own authority, with its key beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gateway -keyout key.pem -out cert.pem"
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *extension], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def gateway(certificate: Path) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with HTTPServer("127.0.0.1", free_port(), ssl_context=context) as gateway:
        gateway.expect_request("/async-function/flow/flow/r1/forward").respond_with_data(status=202)
        gateway.expect_request("/function/f.team").respond_with_data("answer")
        yield gateway


def test_functions_and_the_queue_are_reached_over_https(gateway: HTTPServer, certificate: Path) -> None:
    transport = OpenFaasTransport(gateway.url_for("/"), ca_file=str(certificate))
    url = transport.function_url("f.team")
    answer = transport.call(OutgoingCall("POST", url, {}, [], b"x", 5.0, "f.team"))
    transport.forward([Forward("flow", "r1", b"{}")])

    assert url.startswith("https://")
    assert answer.body == b"answer"
    assert len(gateway.log) == 2


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(gateway: HTTPServer) -> None:
    transport = OpenFaasTransport(gateway.url_for("/"))
    with pytest.raises(ForwardError, match="has a certificate that is not trusted here") as raised:
        transport.forward([Forward("flow", "r1", b"{}")])

    assert "gateway_ca_file" in raised.value.hint
    assert gateway.log == []


def test_the_authority_of_the_gateway_vouches_for_nobody_else(gateway: HTTPServer, certificate: Path) -> None:
    transport = OpenFaasTransport("https://gateway.invalid", ca_file=str(certificate))
    with pytest.raises(TransportError, match="not trusted"):
        transport.call(OutgoingCall("POST", gateway.url_for("/function/f.team"), {}, [], b"x", 5.0))


def test_a_server_that_does_not_speak_tls_gives_no_answer(httpserver: HTTPServer) -> None:
    url = httpserver.url_for("/").replace("http:", "https:")
    with pytest.raises(NoAnswerError, match="gave no answer"):
        OpenFaasTransport(url).call(OutgoingCall("POST", url, {}, [], b"x", 5.0))
