"""etcd as a cluster of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.servers.certificates import Certificates
from tests.servers.install import program
from tests.servers.process import Server
from tests.support import free_port


class EtcdServer(Server):
    """A server that keeps what it holds. With `certificates` it serves TLS alone, and only who has one of them."""

    name = "etcd"

    def __init__(self, folder: Path, *, certificates: Certificates | None = None) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"{'etcds' if certificates else 'etcd'}://127.0.0.1:{self.port}"
        self.address = f"http{'s' if certificates else ''}://127.0.0.1:{self.port}"
        self._peer = f"http://127.0.0.1:{free_port()}"
        self._certificates = certificates

    def command(self) -> list[str]:
        options = {
            "name": "test",
            "data-dir": self.folder / "data",
            "listen-client-urls": self.address,
            "advertise-client-urls": self.address,
            "listen-peer-urls": self._peer,
            "initial-advertise-peer-urls": self._peer,
            "initial-cluster": f"test={self._peer}",
            "logger": "zap",
            "log-level": "warn",
            **self._tls(),
        }
        return [program("etcd"), *(f"--{name}={value}" for name, value in options.items())]

    def is_ready(self) -> bool:
        return self.call("/health", method="GET")["health"] == "true"

    def call(self, path: str, body: object = None, *, method: str = "POST", token: str = "") -> dict[str, Any]:
        """The answer of its HTTP gateway."""
        files = self._certificates
        answer = requests.request(
            method,
            self.address + path,
            json=body or {},
            headers={"Authorization": token} if token else {},
            verify=str(files.authority) if files else None,
            cert=(str(files.certificate), str(files.key)) if files else None,
            timeout=5,
        )
        answer.raise_for_status()
        parsed: dict[str, Any] = answer.json()
        return parsed

    def _tls(self) -> dict[str, object]:
        if self._certificates is None:
            return {}
        return {
            "trusted-ca-file": self._certificates.authority,
            "cert-file": self._certificates.certificate,
            "key-file": self._certificates.key,
            "client-cert-auth": "true",
        }
