"""The functions of stack.yml, called in this process in the style of their templates, and the handlers of its flows."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from faasflow.local.stack import Style, load_stack
from faasflow.local.styles import create_app

ROOT = Path(__file__).parents[2]
STACK = load_stack(ROOT)
FLOWS = [spec.name for spec in STACK.functions.values() if spec.style is Style.FLOW]
PORTRAIT = (ROOT / "examples" / "upload-pipeline" / "portrait.pgm").read_bytes()


def post(function: str, body: bytes, query: str = "") -> TestResponse:
    """What a function of stack.yml answers."""
    return _client(function).post("/", data=body, query_string=query)


@cache
def load(folder: Path, module: str = "handler") -> ModuleType:
    """A module of a handler's folder, which is a package of its own as in the templates."""
    package = f"example_{folder.name}"
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(folder)]
    return importlib.import_module(f"{package}.{module}")


@cache
def _client(function: str) -> FlaskClient:
    spec = STACK.functions[function]
    return create_app(load(spec.handler).handle, style=spec.style).test_client()
