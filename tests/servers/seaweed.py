"""SeaweedFS as one process that speaks S3."""

from __future__ import annotations

import io
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from tests.servers.certificates import Certificates
from tests.servers.process import Server
from tests.support import free_port

# Its own default opens 7 volumes for each bucket, which takes long.
_ONE_VOLUME_A_BUCKET = "WEED_MASTER_VOLUME_GROWTH_COPY_1=1"
_PORTS = ("admin", "master", "volume", "filer")
_PROBE = "ready"


class SeaweedServer(Server):
    """A server that keeps what it holds, and knows one user who may do everything and one who may only read. With
    `certificates` it serves TLS alone."""

    name = "SeaweedFS"
    access_key = "test-access-key"
    secret_key = "test-secret-key"
    reader_access_key = "reader-access-key"
    reader_secret_key = "reader-secret-key"

    def __init__(self, folder: Path, *, certificates: Certificates | None = None) -> None:
        super().__init__(folder)
        ports = _different_ports(3 + 2 * len(_PORTS))
        self.port, self._plain_port, self._grpc_port = (next(ports) for _ in range(3))
        self._others = {name: (next(ports), next(ports)) for name in _PORTS}
        self._certificates = certificates

    def url(self, bucket: str = "faasflow", options: str = "") -> str:
        """What a store opens to use `bucket` as the user who may do everything."""
        login = f"{self.access_key}:{self.secret_key}"
        scheme = "s3s" if self._certificates else "s3"
        return f"{scheme}://{login}@127.0.0.1:{self.port}/{bucket}{options and '?'}{options}"

    def client(self) -> Minio:
        """A client of this test's own."""
        files = self._certificates
        pool = urllib3.PoolManager(
            timeout=5, retries=False, ssl_context=files.client_context() if files is not None else None
        )
        return Minio(
            f"127.0.0.1:{self.port}",
            self.access_key,
            self.secret_key,
            secure=files is not None,
            region="us-east-1",
            http_client=pool,
        )

    def command(self) -> list[str]:
        identities = self.folder / "identities.json"
        identities.write_text(json.dumps({"identities": self._identities()}))
        options = {
            "dir": self.folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "webdav": "false",
            "admin.ui": "false",
            "volume.max": "200",
            "filer.localSocket": self.folder / "filer.sock",
            "s3.localSocket": self.folder / "s3.sock",
            "s3.config": identities,
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.autoCreateBucket": "false",
            **self._ports(),
        }
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        flags = [f"-{name}={value}" for name, value in options.items()]
        return ["env", _ONE_VOLUME_A_BUCKET, str(weed), "-logtostderr=true", "mini", *flags]

    def is_ready(self) -> bool:
        """Its ports are open before it can write, so a write is the proof."""
        try:
            client = self.client()
            if not client.bucket_exists(_PROBE):
                client.make_bucket(_PROBE)
            client.put_object(_PROBE, _PROBE, io.BytesIO(b""), 0)
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        return True

    def _ports(self) -> dict[str, object]:
        ports: dict[str, object] = {"s3.port.grpc": self._grpc_port, "s3.port.iceberg": 0, "s3.port.lance": 0}
        for name, (port, grpc) in self._others.items():
            ports |= {f"{name}.port": port, f"{name}.port.grpc": grpc}
        if self._certificates is None:
            return {**ports, "s3.port": self.port}
        files = {"s3.cert.file": self._certificates.certificate, "s3.key.file": self._certificates.key}
        return {**ports, **files, "s3.port": self._plain_port, "s3.port.https": self.port}

    def _identities(self) -> list[dict[str, object]]:
        return [
            _identity("writer", self.access_key, self.secret_key, ["Admin", "Read", "List", "Tagging", "Write"]),
            _identity("reader", self.reader_access_key, self.reader_secret_key, ["Read", "List"]),
        ]


def _different_ports(count: int) -> Iterator[int]:
    # Each is free when it is asked for, so the same one may come twice.
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return iter(ports)


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, object]:
    return {
        "name": name,
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": actions,
    }
