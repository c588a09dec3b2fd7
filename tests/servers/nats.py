"""NATS with JetStream as one server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import requests

from tests.servers.certificates import Certificates
from tests.servers.process import Server
from tests.support import free_port


class NatsServer(Server):
    """A server that keeps its streams in files. With `password`, only the user `worker` who knows it may do anything;
    with `certificates` it serves TLS alone, and only who has one of them."""

    name = "NATS"

    def __init__(self, folder: Path, *, password: str = "", certificates: Certificates | None = None) -> None:
        super().__init__(folder)
        self.port, self._monitor = free_port(), free_port()
        self.url = f"{'tls' if certificates else 'nats'}://127.0.0.1:{self.port}"
        self._password = password
        self._certificates = certificates

    def command(self) -> list[str]:
        settings = self.folder / "settings.conf"
        settings.write_text(json.dumps(self._settings()))  # its own format takes JSON as well
        return [str(Path(sys.executable).with_name("nats-server")), "--config", str(settings)]

    def is_ready(self) -> bool:
        return requests.get(f"http://127.0.0.1:{self._monitor}/healthz", timeout=5).status_code == 200

    def messages(self, stream: str) -> int | None:
        """How many messages a stream holds; `None` if there is no such stream."""
        report = requests.get(f"http://127.0.0.1:{self._monitor}/jsz?streams=1", timeout=5).json()
        streams = [found for account in report.get("account_details", ()) for found in account.get("stream_detail", ())]
        return next((found["state"]["messages"] for found in streams if found["name"] == stream), None)

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "listen": f"127.0.0.1:{self.port}",
            "http": f"127.0.0.1:{self._monitor}",
            "jetstream": {"store_dir": str(self.folder / "data")},
        }
        if self._password:
            settings["authorization"] = {"user": "worker", "password": self._password}
        if files := self._certificates:
            names = {"ca_file": files.authority, "cert_file": files.certificate, "key_file": files.key}
            settings["tls"] = {name: str(path) for name, path in names.items()} | {"verify": True}
        return settings
