"""Which stores are set: by their URLs, by the original's names for Consul and S3, or else a file."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode

from faasflow.config.reader import Reader
from faasflow.naming import escape

CONSUL = "consul.faasflow:8500"
S3 = "minio.faasflow:9000"
BUCKET = "faasflow"

_SERVER = re.compile(r"(?:(https?)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?/?")
_WAY_OUT = "Create it with faas-cli secret create, and list it under the secrets of the function."


def state_store(read: Reader, default: str) -> str:
    """`state_store`, else what the original's names say, else a file."""
    if given := read.text("state_store"):
        read.unused("consul_url", "not used: state_store is set")
        return given
    url = read.text("consul_url", CONSUL if _is_in_cluster(read) else "")
    if not url:
        read.text("state_store", default)
        return default
    server = _server(read, "consul_url", url)
    dc = read.text("consul_dc", "dc1")
    return read.derived("state_store", f"consul{server}?{urlencode({'dc': dc})}", "consul_url")


def data_store(read: Reader, default: str) -> str:
    """`data_store`, else what the original's names say, else a file."""
    if given := read.text("data_store"):
        read.unused("s3_url", "not used: data_store is set")
        return given
    url = read.text("s3_url", S3 if _is_in_cluster(read) else "")
    if not url:
        read.text("data_store", default)
        return default
    server = _server(read, "s3_url", url, is_tls=read.boolean("s3_tls", False))
    options = {"region": read.text("s3_region", "us-east-1")}
    for option, name in (("access_key", "s3-access-key"), ("secret_key", "s3-secret-key")):
        secret = read.text(f"s3_{option}_name", name)
        read.secret(secret, _WAY_OUT)
        options[f"{option}_file"] = str(read.secret_file(secret))
    return read.derived("data_store", f"s3{server}/{BUCKET}?{urlencode(options, safe='/')}", "s3_url")


def _is_in_cluster(read: Reader) -> bool:
    """Whether this is a pod of Kubernetes, whose files are its own and go with it, and nobody asked for a file."""
    return bool(read.text("KUBERNETES_SERVICE_HOST")) and not read.text("state_dir")


def _server(read: Reader, name: str, text: str, *, is_tls: bool = False) -> str:
    """The rest of a store URL behind the name of its kind: an `s` for TLS, and the server."""
    found = _SERVER.fullmatch(text)
    if found is None:
        read.refuse(name, text, "host:port, as the original has it, or set the URL of the store instead")
        return "://127.0.0.1"
    port = f":{found[3]}" if found[3] else ""
    return f"{'s' if is_tls or found[1] == 'https' else ''}://{found[2]}{port}"


def _own_folder() -> Path:
    """The user's folder for state; where the home cannot be written to, as in a read-only container, a folder for
    temporary files, which is refused if another user made it."""
    home = Path(os.path.expanduser("~"))
    state = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    if os.access(state if state.is_dir() else home, os.W_OK):
        return state / "faasflow"
    return Path(tempfile.gettempdir()) / f"faasflow-{os.getuid()}"


def default_store(folder: str, flow: str) -> str:
    """The URL of a file of the flow in `folder`, or in the user's own folder for state."""
    home = Path(folder) if folder else _own_folder()
    return "sqlite://" + quote(str(home.absolute() / f"{escape(flow or 'flow')}.db"))
