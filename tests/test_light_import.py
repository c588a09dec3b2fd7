"""`import faasflow` is cheap: what only some users need is imported where it is used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "click",
    "consul",
    "flask",
    "jaeger_client",
    "minio",
    "msgspec",
    "nats",
    "opentelemetry",
    "opentracing",
    "redis",
    "requests",
    "sqlite3",
    "urllib3",
    "waitress",
    "werkzeug",
    "yaml",
}


def test_import_loads_no_web_network_or_database_library() -> None:
    program = "import sys; before = set(sys.modules); import faasflow; print(*(set(sys.modules) - before), sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    assert "faasflow" in loaded
    assert HEAVY & set(loaded) == set()
