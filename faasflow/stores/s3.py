"""Data in one bucket of an S3 service, such as MinIO; through `minio`.

The object of a key is named like the key with a `!` behind it, so that no object is also a folder of others, which some
servers do not take. `!` and two hexadecimal digits stand for a byte that a server might read in a way of its own: all
but letters, digits and `-_~.%`, a `/` that ends no part, and a dot that begins one. Objects of other names are not ours
and are left alone.

Each object carries the SHA-256 of its value, which is checked when it is read. In memory there is the value once and,
while one of more than 8 MB is written, two parts of 8 MB.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error
from minio.helpers import check_bucket_name
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError, ReadTimeoutError

from faasflow.errors import (
    ConfigError,
    KeyNotFoundError,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    ValueTooLargeError,
)
from faasflow.sockets import SOCKET_OPTIONS, is_silence
from faasflow.stores.address import LONGEST_IDLE, Tls, parse_address, read_secret
from faasflow.stores.base import BaseDataStore

FORM = (
    "'s3://[ACCESS_KEY:SECRET_KEY@]HOST[:PORT][/BUCKET][?region=NAME&access_key_file=PATH&secret_key_file=PATH]', "
    "or 's3s:' for TLS"
)
_OPTIONS = ("region", "access_key_file", "secret_key_file")

_PART = 8 * 1024 * 1024
_CONNECTIONS = 64
_DIGEST = "sha256"
_NOWHERE = "faasflow/!"  # begins no name of ours

_SPECIAL = re.compile(rb"[^\w~.%/-]|(?:^|(?<=/))[./]")
_ESCAPE = re.compile(rb"!([0-9A-F]{2})")

_LOGIN = "Give the right access key and secret key."
_HINTS = {
    "NoSuchBucket": "Create it. It was there when the store was made ready.",
    "AccessDenied": "Allow this access key to list the bucket, and to get, put and delete its objects.",
    "InvalidAccessKeyId": _LOGIN,
    "SignatureDoesNotMatch": _LOGIN,
    "RequestTimeTooSkewed": "Set the clock of this machine.",
    "AuthorizationHeaderMalformed": "Name the region of the bucket.",
    "PermanentRedirect": "Name the region of the bucket, and its server there.",
}
_TEMPORARY = {"BadDigest", "OperationAborted", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}


class S3DataStore(BaseDataStore):
    """A data store in the bucket `bucket` of the S3 service at `host`, which `init` makes if it is missing. Without a
    `port` it is that of HTTP or, with `tls`, of HTTPS; without keys the service is used as nobody in particular.

    Times are in seconds and hold for one request; one that is not answered is made once more if that is harmless. After
    a fork each process has connections of its own. Closing releases them, and the next call makes new ones.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        *,
        bucket: str = "faasflow",
        access_key: str = "",
        secret_key: str = "",
        region: str = "us-east-1",
        tls: Tls | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 20.0,
    ) -> None:
        if bool(access_key) != bool(secret_key):
            raise ConfigError("An S3 store has one of access key and secret key. Give both, or none.")
        self._endpoint = f"[{host}]" if ":" in host else host
        self._endpoint += f":{port}" if port else ""
        self._bucket = bucket
        self._access_key = access_key or None
        self._secret_key = secret_key or None
        self._region = region
        self._tls = tls.context() if tls is not None else None
        self._timeout = Timeout(connect=connect_timeout, read=timeout)
        self._clients: dict[int, Minio] = {}
        try:
            check_bucket_name(bucket, strict=True)
            self._connect()
        except ValueError as exc:
            raise ConfigError(f"The S3 store at {self._endpoint!r} cannot be used: {exc}.") from exc

    @classmethod
    def from_url(cls, url: str) -> S3DataStore:
        """The store that an `s3:` or `s3s:` URL names."""
        address = parse_address(url, form=FORM, port=0, options=_OPTIONS, path=r"[\w.-]+")
        return cls(
            address.host,
            address.port,
            bucket=address.path or "faasflow",
            access_key=address.user or read_secret(address, "access_key_file"),
            secret_key=address.password or read_secret(address, "secret_key_file"),
            region=address.options.get("region", "us-east-1"),
            tls=address.tls,
        )

    def init(self) -> None:
        with self._errors():
            if not self._has_bucket():
                self._make_bucket()

    def get(self, key: str) -> bytes:
        with self._errors(key):
            answer = self._client.get_object(self._bucket, _name(key))
            try:
                value = answer.read()
                digest = answer.headers.get(f"x-amz-meta-{_DIGEST}")
            finally:
                answer.close()
                answer.release_conn()
        if digest != hashlib.sha256(value).hexdigest():
            raise StoreCorruptError(f"What bucket {self._bucket!r} holds under {key!r} is not what was stored there.")
        return value

    def set(self, key: str, value: bytes) -> None:
        with self._errors(key):
            self._client.put_object(
                self._bucket,
                _name(key),
                io.BytesIO(value),
                len(value),
                part_size=_PART,
                num_parallel_uploads=1,
                metadata={_DIGEST: hashlib.sha256(value).hexdigest()},
            )

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.remove_object(self._bucket, _name(key))

    def list(self, prefix: str) -> Sequence[str]:
        with self._errors():
            return sorted(key for key, _ in self._objects(prefix))

    def clear(self, prefix: str) -> None:
        with self._errors():
            objects = (DeleteObject(name) for _, name in self._objects(prefix))
            # Nothing is removed before the answers are asked for.
            for left in self._client.remove_objects(self._bucket, objects):
                raise self._refusal(left.code, left.message)

    def close(self) -> None:
        # The client closes its connections when the last call that uses it has ended.
        self._clients.pop(os.getpid(), None)

    @property
    def _client(self) -> Minio:
        # A client of another process is kept: to take it apart could need a lock that a thread there has.
        client = self._clients.get(os.getpid())
        return client or self._clients.setdefault(os.getpid(), self._connect())

    def _connect(self) -> Minio:
        # The client's own pool would wait 5 minutes for an answer, and ask 6 times.
        pool = PoolManager(
            timeout=self._timeout,
            maxsize=_CONNECTIONS,
            block=True,
            retries=_Retry(
                total=2,
                connect=1,
                read=1,
                redirect=False,
                backoff_factor=0.2,
                status_forcelist=(500, 502, 503, 504),
                raise_on_status=False,
                respect_retry_after_header=False,
            ),
            ssl_context=self._tls,
            socket_options=SOCKET_OPTIONS,
        )
        pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return Minio(
            self._endpoint,
            access_key=self._access_key,
            secret_key=self._secret_key,
            secure=self._tls is not None,
            region=self._region,
            http_client=pool,
        )

    def _has_bucket(self) -> bool:
        # A HEAD request would do, but its answer does not say what is wrong with a login.
        try:
            next(self._client.list_objects(self._bucket, prefix=_NOWHERE, recursive=True), None)
        except S3Error as exc:
            if exc.code != "NoSuchBucket":
                raise
            return False
        return True

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as exc:
            # Another process may have been faster.
            if not self._has_bucket():
                raise StoreError(
                    f"S3 at {self._endpoint} has no bucket {self._bucket!r}, and refused to make it: {exc.code}.",
                    hint="Create it, or allow this access key to create it.",
                ) from exc

    def _objects(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The keys that start with `prefix`, with the names of their objects."""
        for found in self._client.list_objects(self._bucket, prefix=_escaped(prefix), recursive=True):
            name = found.object_name or ""
            key = _key(name)
            if key is not None:
                yield key, name

    @contextmanager
    def _errors(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except S3Error as exc:
            if exc.code == "NoSuchKey":
                raise KeyNotFoundError(key) from exc
            raise self._refusal(exc.code, exc.message, status=exc.response.status) from exc
        except InvalidResponseError as exc:
            raise self._refusal("no S3 answer", str(exc)[:200], status=exc._code) from exc
        except HTTPError as exc:
            raise self._away(exc) from exc
        except (MinioException, ValueError, ParseError) as exc:
            raise self._refusal(type(exc).__name__, str(exc)) from exc

    def _refusal(self, code: str | None, message: str | None, *, status: int = 0) -> StoreError:
        said = f"S3 at {self._endpoint} refused an operation on bucket {self._bucket!r}: {message} ({code})"
        if status >= 500 or code in _TEMPORARY:
            return StoreUnavailableError(said, hint="Try again; look at its log if this lasts.")
        if code == "EntityTooLarge":
            return ValueTooLargeError(said)
        return StoreError(said, hint=_HINTS.get(code or "", ""))

    def _away(self, exc: HTTPError) -> StoreUnavailableError:
        reason = exc.reason if isinstance(exc, MaxRetryError) and exc.reason is not None else exc
        if isinstance(reason, ConnectTimeoutError | ReadTimeoutError) and not isinstance(reason, NewConnectionError):
            return StoreUnavailableError(
                f"S3 at {self._endpoint} did not answer in time ({self._timeout.connect_timeout} s to connect, "
                f"{self._timeout.read_timeout} s to answer).",
                hint="Look at its load and at the network between.",
            )
        cause = reason.__cause__ or reason
        return StoreUnavailableError(
            f"S3 at {self._endpoint} cannot be reached: {getattr(cause, 'strerror', None) or cause}.",
            hint="Check that it runs and that its address is right.",
        )


class _Retry(Retry):
    """Asks a server that is only slow once."""

    def increment(self, *arguments: Any, **options: Any) -> _Retry:
        error = options.get("error")
        if isinstance(error, ReadTimeoutError) and not is_silence(error):
            raise error
        return super().increment(*arguments, **options)


class _Pool(HTTPConnectionPool):
    """A pool that uses no connection which was idle for long."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if time.monotonic() - getattr(connection, "idle_since", 0) > LONGEST_IDLE:
            connection.close()  # it connects again when it is used
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _SecurePool(_Pool, HTTPSConnectionPool):
    """The same over TLS."""


def _name(key: str) -> str:
    """The name of the object that holds `key`."""
    return _escaped(key) + "!"


def _escaped(text: str) -> str:
    """Text that begins the name of every key which begins with `text`, and of no other."""
    data = text.encode("utf-8", "surrogatepass")
    return _SPECIAL.sub(lambda found: b"!%02X" % found[0][0], data).decode()


def _key(name: str) -> str | None:
    """The key whose object has this name; None if no key's has."""
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.removesuffix("!").encode())
    try:
        key = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return key if _name(key) == name else None
