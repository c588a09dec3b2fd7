"""The S3 store, on a real SeaweedFS."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer

from faasflow.errors import ConfigError, StoreCorruptError, StoreError, StoreUnavailableError
from faasflow.ports import DataStore
from faasflow.stores import open_data_store
from faasflow.stores.s3 import S3DataStore
from faasflow.testing.contracts import DataStoreContract, together
from tests.servers.certificates import Certificates
from tests.servers.fixtures import Run
from tests.servers.seaweed import SeaweedServer
from tests.support import free_port, wait_until

MEGABYTE = 1024 * 1024
SECRET = "hunter2hunter2"

CALLS = {
    "init": lambda store: store.init(),
    "get": lambda store: store.get("key"),
    "set": lambda store: store.set("key", b"value"),
    "set a large value": lambda store: store.set("key", bytes(17 * MEGABYTE)),
    "delete": lambda store: store.delete("key"),
    "list": lambda store: store.list("n/"),
    "cleanup": lambda store: store.configure("flow", "1").cleanup(),
}


@pytest.fixture
def store(seaweed_server: SeaweedServer) -> Iterator[S3DataStore]:
    store = S3DataStore.from_url(seaweed_server.url())
    store.init()
    yield store
    store.cleanup()
    store.close()


class TestContract(DataStoreContract):
    @pytest.fixture
    def store(self, store: S3DataStore) -> DataStore:
        return store

    @pytest.fixture
    def peer(self, seaweed_server: SeaweedServer) -> Iterator[DataStore]:
        peer = S3DataStore.from_url(seaweed_server.url())
        yield peer
        peer.close()


def test_a_missing_bucket_is_made_once_by_all_who_come_at_the_same_time(seaweed_server: SeaweedServer) -> None:
    bucket = f"new-{uuid4().hex}"
    stores = [S3DataStore.from_url(seaweed_server.url(bucket)) for _ in range(8)]
    together(lambda store: store.init(), stores)
    stores[0].set("key", b"value")

    assert [store.get("key") for store in stores] == [b"value"] * 8


def test_a_bucket_that_went_away_is_told_by_name(seaweed_server: SeaweedServer) -> None:
    store = S3DataStore.from_url(seaweed_server.url("went-away"))

    for call in ("get", "set", "list", "cleanup"):
        with pytest.raises(StoreError, match=r"'went-away'.*\(NoSuchBucket\)") as caught:
            CALLS[call](store)
        assert type(caught.value) is StoreError
        assert caught.value.hint.startswith("Create it")


@pytest.mark.parametrize("call", ["init", "get", "set", "list", "cleanup"])
@pytest.mark.parametrize(
    ("access_key", "code"),
    [(SeaweedServer.access_key, "SignatureDoesNotMatch"), ("nobody", "InvalidAccessKeyId")],
)
def test_a_wrong_login_is_refused_without_showing_it(
    seaweed_server: SeaweedServer, call: str, access_key: str, code: str
) -> None:
    store = S3DataStore("127.0.0.1", seaweed_server.port, access_key=access_key, secret_key=SECRET)

    with pytest.raises(StoreError, match=code) as caught:
        CALLS[call](store)
    assert type(caught.value) is StoreError
    assert caught.value.hint == "Give the right access key and secret key."
    assert not any(SECRET in text for text in (repr(caught.value), repr(store), str(caught.value.__cause__)))


def test_nobody_in_particular_is_refused(seaweed_server: SeaweedServer) -> None:
    with pytest.raises(StoreError, match="AccessDenied") as caught:
        S3DataStore("127.0.0.1", seaweed_server.port).init()

    assert caught.value.hint.startswith("Allow this access key")


def test_who_may_only_read_is_told_what_is_refused(seaweed_server: SeaweedServer, store: S3DataStore) -> None:
    store.set("key", b"value")
    login = {"access_key": seaweed_server.reader_access_key, "secret_key": seaweed_server.reader_secret_key}
    reader = S3DataStore("127.0.0.1", seaweed_server.port, **login)
    reader.init()

    assert reader.get("key") == b"value"
    for call in ("set", "set a large value", "delete"):
        with pytest.raises(StoreError, match="AccessDenied"):
            CALLS[call](reader)
    with pytest.raises(StoreError):
        reader.cleanup()
    assert store.list("") == ["key"]
    with pytest.raises(StoreError, match="has no bucket 'not-made', and refused to make it"):
        S3DataStore("127.0.0.1", seaweed_server.port, bucket="not-made", **login).init()


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_away_is_told_at_once(call: str) -> None:
    port = free_port()
    store = S3DataStore("127.0.0.1", port, access_key="key", secret_key=SECRET)
    start = time.monotonic()

    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port} cannot be reached: .*refused") as caught:
        CALLS[call](store)
    assert time.monotonic() - start < 5
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("call", ["init", "get", "set", "set a large value", "cleanup"])
def test_a_server_that_never_answers_is_given_up(call: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        store = S3DataStore(*silent.getsockname(), timeout=0.2)
        start = time.monotonic()

        with pytest.raises(StoreUnavailableError, match=r"did not answer in time \(3\.0 s to connect, 0\.2 s"):
            CALLS[call](store)
    assert time.monotonic() - start < 5


def test_a_host_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailableError, match=r"no-such-host\.invalid:9000 cannot be reached"):
        S3DataStore("no-such-host.invalid", 9000).init()


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("content_type", ["application/xml", "text/html"])
def test_a_server_that_fails_is_asked_again_and_then_unavailable(
    httpserver: HTTPServer, status: int, content_type: str
) -> None:
    text = "<Error><Code>SlowDown</Code><Message>Too many.</Message></Error>" if "xml" in content_type else "<p>bad"
    httpserver.expect_request("/faasflow/key!").respond_with_data(
        text, status, headers={"Retry-After": "3600"}, content_type=content_type
    )

    with pytest.raises(StoreUnavailableError, match="refused an operation on bucket 'faasflow'"):
        S3DataStore(httpserver.host, httpserver.port).get("key")
    assert len(httpserver.log) == 3


@pytest.mark.parametrize("body", ["", "<html>Welcome", "<ListBucketResult><Contents>"])
def test_what_is_no_s3_server_is_told(httpserver: HTTPServer, body: str) -> None:
    httpserver.expect_request("/faasflow").respond_with_data(body, content_type="text/html")

    with pytest.raises(StoreError, match="refused an operation"):
        S3DataStore(httpserver.host, httpserver.port).list("")


def test_a_redirect_to_elsewhere_is_not_followed(httpserver: HTTPServer) -> None:
    elsewhere = httpserver.url_for("/elsewhere")
    httpserver.expect_request("/faasflow/key!").respond_with_data("", 301, headers={"Location": elsewhere})

    with pytest.raises(StoreError):
        S3DataStore(httpserver.host, httpserver.port, access_key="key", secret_key=SECRET).get("key")
    assert [request.path for request, _ in httpserver.log] == ["/faasflow/key!"]


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nval",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nval",
        b"",
    ],
)
def test_half_an_answer_is_no_value(sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        thread = Thread(target=_answer_each, args=[listener, sent])
        thread.start()
        try:
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                S3DataStore(*listener.getsockname()).get("key")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_server_that_was_killed_is_used_again_when_it_is_back(run_server: Run[SeaweedServer], tmp_path: Path) -> None:
    server = run_server(SeaweedServer(tmp_path / "server"))
    store = S3DataStore.from_url(server.url())
    store.init()
    large = os.urandom(3 * MEGABYTE)
    together(lambda number: store.set(f"key/{number}", large + b"%d" % number), range(4))
    server.kill()

    with pytest.raises(StoreUnavailableError):
        store.get("key/0")
    server.start()
    # It lists before it has found all of its volumes again, and until then says that it cannot read.
    found = wait_until(lambda: [store.get(f"key/{number}") for number in range(4)], "all values to be read again")
    assert found == [large + b"%d" % number for number in range(4)]
    assert store.list("") == [f"key/{number}" for number in range(4)]
    store.close()


def test_tls_is_checked_against_the_authority_that_is_named(
    run_server: Run[SeaweedServer], certificates: Certificates, tmp_path: Path
) -> None:
    server = run_server(SeaweedServer(tmp_path / "server", certificates=certificates))
    store = open_data_store(server.url(options=f"ca_file={certificates.authority}"))
    value = os.urandom(17 * MEGABYTE)
    store.init()
    store.set("key", value)

    assert store.get("key") == value
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        open_data_store(server.url()).init()


def test_values_are_checked_against_what_was_stored(seaweed_server: SeaweedServer, store: S3DataStore) -> None:
    client = seaweed_server.client()
    for key in ("a", "b", "c"):
        store.set(key, b"value")
    digest = client.stat_object("faasflow", "a!").metadata["x-amz-meta-sha256"]  # type: ignore[index]
    client.put_object("faasflow", "b!", io.BytesIO(b"valuE"), 5, metadata={"sha256": digest})
    client.put_object("faasflow", "c!", io.BytesIO(b"value"), 5)

    assert store.get("a") == b"value"
    for key in ("b", "c"):
        with pytest.raises(StoreCorruptError, match=f"'{key}' is not what was stored"):
            store.get(key)


def test_objects_are_found_by_their_keys_and_others_left_alone(
    seaweed_server: SeaweedServer, store: S3DataStore
) -> None:
    client = seaweed_server.client()
    others = ["key", "folder/key", "a!2e!", "a!2!", "!FF!", "a!2Fb!x"]
    for name in others:
        client.put_object("faasflow", name, io.BytesIO(b""), 0)
    store.configure("flow", "1").set("node/x~1f", b"value")

    assert store.list("") == ["faasflow/flow/1/node/x~1f"]
    assert client.stat_object("faasflow", "faasflow/flow/1/node/x~1f!").size == 5
    store.cleanup()
    assert {found.object_name for found in client.list_objects("faasflow", recursive=True)} == set(others)
    for name in others:
        client.remove_object("faasflow", name)


KEYS = ["a", "a/", "a//", "a/b", "a/b/", "/a", "/", "//", ".", "..", "../a", "a/..", "a/./b", "a!", "a!/", "!21", "a b"]


def test_keys_that_servers_would_take_for_the_same_are_not(store: S3DataStore) -> None:
    for key in [*KEYS, "\x7f\ud800+&<>'\"", "x" * 200]:
        store.set(key, key.encode("utf-8", "replace"))

    for key in [*KEYS, "\x7f\ud800+&<>'\"", "x" * 200]:
        assert store.get(key) == key.encode("utf-8", "replace")
    assert set(store.list("")) == {*KEYS, "\x7f\ud800+&<>'\"", "x" * 200}
    store.delete("a")
    assert store.get("a/") == b"a/"
    store.delete("a/b/")
    assert store.get("a/b") == b"a/b"


def test_more_keys_than_one_answer_or_one_request_takes_are_listed_and_removed(store: S3DataStore) -> None:
    view = store.configure("flow", "1")
    other = store.configure("flow", "2")
    other.set("key", b"")
    together(lambda part: [view.set(f"{part}/{number:03}", b"") for number in range(256)], range(4))

    assert len(view.list("")) == 1024
    view.cleanup()
    assert view.list("") == []
    assert other.list("") == ["key"]


def test_eight_threads_use_one_store(store: S3DataStore) -> None:
    def work(name: int) -> None:
        for number in range(10):
            value = os.urandom(100_000)
            store.set(f"{name}/{number}", value)
            assert store.get(f"{name}/{number}") == value

    together(work, range(8))

    assert len(store.list("")) == 80


def test_a_fork_has_connections_of_its_own(store: S3DataStore) -> None:
    store.set("key", b"value")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            seen = {store.get("key") for _ in range(100)}
            os.write(writer, b"".join(seen))
        finally:
            os._exit(0)
    os.close(writer)

    assert {store.get("key") for _ in range(100)} == {b"value"}
    with os.fdopen(reader, "rb") as said:
        assert said.read() == b"value"
    os.waitpid(child, 0)


def test_a_store_that_was_closed_can_be_used_again(store: S3DataStore) -> None:
    store.set("key", b"value")
    store.close()

    assert store.get("key") == b"value"


def test_a_large_value_is_in_memory_once_and_one_part_of_it_again(store: S3DataStore) -> None:
    size = 40 * MEGABYTE
    value = os.urandom(size)
    store.set("warm", b"")
    tracemalloc.start()
    try:
        store.set("key", value)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = store.get("key")
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found == value
    assert written < 18 * MEGABYTE
    assert read < size + 2 * MEGABYTE


@pytest.mark.parametrize("name", ["s3", "s3s"])
def test_a_url_names_a_server_and_where_its_secrets_are(tmp_path: Path, name: str) -> None:
    for file in ("access", "secret"):
        (tmp_path / file).write_text(f"{SECRET}-{file}\n")
    files = f"access_key_file={tmp_path}/access&secret_key_file={tmp_path}/secret"

    for url in (f"{name}://host:9000/my-bucket?region=eu&{files}", f"{name}://[::1]/?{files}", f"{name}://a%2Fb:c@h"):
        assert SECRET not in repr(open_data_store(url))


@pytest.mark.parametrize(
    "url",
    [
        *("s3:", "s3://", "s3:bucket", "s3://host:x", "s3://host/a/b", "s3://host/a?tls=maybe", "s3://host/a#b"),
        *("s3://host?region=", "s3://host?ca_file=/ca.pem", "s3://host?region=a&region=b", "s3://a:b@"),
        *("s3://host/UPPER", "s3://host/ab", "s3://host/a_bucket", "s3://host/1.2.3.4", "s3://host?region=a%20b"),
        *("s3://key@host", "s3://:secret@host"),
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"S3|s3"):
        open_data_store(url)


def test_a_secret_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    for file in ("missing", "empty"):
        with pytest.raises(ConfigError, match=f"access_key_file .*{file}"):
            open_data_store(f"s3://host?access_key_file={tmp_path / file}")


def test_the_client_library_is_imported_when_such_a_store_is_opened() -> None:
    script = "import sys, faasflow, faasflow.runtime, faasflow.stores as s; s.open_data_store('memory:'); "
    done = subprocess.run(
        [sys.executable, "-c", script + "print('minio' in sys.modules)"], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"


def _answer_each(listener: socket.socket, sent: bytes) -> None:
    """Says the same to everyone, until the listener is shut down."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)
