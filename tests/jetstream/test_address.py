"""What a NATS URL says."""

from __future__ import annotations

from pathlib import Path

import pytest

from faasflow.errors import ConfigError
from faasflow.transport.jetstream import Address


def test_a_url_names_servers_and_stream() -> None:
    address = Address.from_url("nats://one,two:4333?stream=team&replicas=3")

    assert address.servers == ("nats://one:4222", "nats://two:4333")
    assert (address.stream, address.replicas) == ("team", 3)


def test_a_stream_is_called_faasflow_unless_the_url_says_otherwise() -> None:
    assert Address.from_url("nats://localhost").subject("my.flow") == "faasflow.forward.my%2Eflow"


def test_a_login_is_decoded_and_kept_out_of_sight() -> None:
    address = Address.from_url("nats://me:p%40ss@localhost")

    assert (address.user, address.password) == ("me", "p@ss")
    assert "p@ss" not in f"{address} {address!r}"


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" t0ken\n")

    assert Address.from_url(f"nats://localhost?token_file={tmp_path}/token").token == "t0ken"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway",
        "http://localhost",
        "nats://",
        "nats://localhost:x",
        "nats://localhost:0",
        "nats://localhost/stream",
        "nats://localhost?stream=a.b",
        "nats://localhost?stream=",
        "nats://localhost?replicas=many",
        "nats://localhost?replicas=9",
        "nats://localhost?colour=red",
        "nats://me:secret@localhost?colour=red",
        "nats://me:sec/r@et@localhost?colour=red",
    ],
)
def test_a_url_that_says_something_else_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="Use nats://host:port") as raised:
        Address.from_url(url)

    assert "sec" not in str(raised.value)


def test_a_secret_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match=r"password_file '.*/none' of a NATS URL cannot be read"):
        Address.from_url(f"nats://me@localhost?password_file={tmp_path}/none")
    with pytest.raises(ConfigError, match=r"token_file '.*/empty' of a NATS URL is empty"):
        Address.from_url(f"nats://localhost?token_file={tmp_path}/empty")
    with pytest.raises(ConfigError, match="TLS for NATS cannot be set up"):
        Address.from_url(f"tls://localhost?ca_file={tmp_path}/empty")
