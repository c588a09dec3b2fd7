"""Consul as one agent."""

from __future__ import annotations

import json
from pathlib import Path

import requests

from tests.servers.certificates import Certificates
from tests.servers.install import program
from tests.servers.process import Server
from tests.support import free_port


class ConsulServer(Server):
    """A server that is alone. What it holds is lost when it ends, unless it is `durable`. With `token`, whoever does
    not have it may do nothing. With `certificates` it serves TLS alone, and only who has one of them."""

    name = "Consul"

    def __init__(
        self, folder: Path, *, durable: bool = False, token: str = "", certificates: Certificates | None = None
    ) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"{'consuls' if certificates else 'consul'}://127.0.0.1:{self.port}"
        self._others = {"server": free_port(), "serf_lan": free_port()}
        self._durable = durable
        self._token = token
        self._certificates = certificates

    def command(self) -> list[str]:
        settings = self.folder / "settings.json"
        settings.write_text(json.dumps(self._settings()))
        mode = ["-server", "-bootstrap-expect=1", f"-data-dir={self.folder / 'data'}"] if self._durable else ["-dev"]
        return [program("consul"), "agent", *mode, f"-config-file={settings}"]

    def is_ready(self) -> bool:
        files = self._certificates
        answer = requests.get(
            f"http{'s' if files else ''}://127.0.0.1:{self.port}/v1/kv/ready",
            headers={"X-Consul-Token": self._token} if self._token else {},
            params={"consistent": ""},
            verify=str(files.authority) if files else None,
            cert=(str(files.certificate), str(files.key)) if files else None,
            timeout=5,
        )
        return answer.status_code in (200, 404)

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "bind_addr": "127.0.0.1",
            "advertise_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "node_name": "test",
            "ports": {**self._ports(), **self._others, "dns": -1, "grpc": -1, "serf_wan": -1},
            "disable_update_check": True,
            "log_level": "warn",
            "performance": {"raft_multiplier": 1},
        }
        if self._token:
            tokens = {"master": self._token}
            settings["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        if self._certificates:
            settings["ca_file"] = str(self._certificates.authority)
            settings["cert_file"] = str(self._certificates.certificate)
            settings["key_file"] = str(self._certificates.key)
            settings["verify_incoming_https"] = True
        return settings

    def _ports(self) -> dict[str, int]:
        return {"http": -1, "https": self.port} if self._certificates else {"http": self.port}
