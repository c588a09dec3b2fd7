"""The HTTP front of a flow function: its routes, and the server that drains before it ends."""

from __future__ import annotations

from faasflow.http.app import create_app
from faasflow.http.hosts import ByHost

__all__ = ["ByHost", "create_app"]
