"""How the gateway of the laptop sends calls on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from faasflow.errors import CallTimeoutError
from faasflow.local.client import Client
from tests.transport.conftest import LARGE, RawServer, raw_server, take_late

__all__ = ["raw_server"]


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client(threads=1)
    yield client
    client.close()


def test_a_large_body_may_take_as_long_as_its_call(
    client: Client, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faasflow.local.client._CONNECT_TIMEOUT", 0.2)
    raw_server.answer(lambda connection: take_late(connection, after=0.6))

    assert client.send("POST", raw_server.url, headers=[], body=bytes(LARGE), timeout=20).status == 200


def test_a_body_that_is_not_taken_in_time_is_a_timeout(client: Client, raw_server: RawServer) -> None:
    raw_server.answer(lambda connection: time.sleep(10))

    with pytest.raises(CallTimeoutError, match=r"within 0\.4 s"):
        client.send("POST", raw_server.url, headers=[], body=bytes(LARGE), timeout=0.4)
