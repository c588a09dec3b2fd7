"""Certificates of an authority that only this test run trusts, made by Consul's own tool."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import program


@dataclass(frozen=True, slots=True)
class Certificates:
    """The authority, and one certificate of 127.0.0.1 with its key, which serves and calls."""

    authority: Path
    certificate: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificates(folder: Path) -> Certificates:
    folder.mkdir(parents=True, exist_ok=True)
    for what in (["ca", "create"], ["cert", "create", "-server"]):
        subprocess.run([program("consul"), "tls", *what], cwd=folder, check=True, capture_output=True)
    return Certificates(
        authority=folder / "consul-agent-ca.pem",
        certificate=folder / "dc1-server-consul-0.pem",
        key=folder / "dc1-server-consul-0-key.pem",
    )
