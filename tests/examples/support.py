"""The flows of stack.yml in process, calling its functions in the style of their templates."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import urlencode

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from faasflow.local.stack import Style, load_stack
from faasflow.local.styles import create_app
from faasflow.ports import OutgoingCall, Response
from faasflow.testing import FlowTester

ROOT = Path(__file__).parents[2]
STACK = load_stack(ROOT)
FLOWS = [spec.name for spec in STACK.functions.values() if spec.style is Style.FLOW]
PORTRAIT = (ROOT / "examples" / "upload-pipeline" / "portrait.pgm").read_bytes()


def make_tester(flow: str) -> FlowTester:
    """A tester of a flow of stack.yml in which every other function of the file answers as it would when deployed."""
    tester = FlowTester(load(STACK.functions[flow].handler).define, name=flow)
    for name in STACK.functions.keys() - set(FLOWS):
        tester.answer(name, _answer)
    return tester


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


def _answer(call: OutgoingCall) -> Response:
    assert call.function is not None
    response = post(call.function, call.body, urlencode(call.query))
    return Response(response.status_code, dict(response.headers), response.data)


@cache
def _client(function: str) -> FlaskClient:
    spec = STACK.functions[function]
    return create_app(load(spec.handler).handle, style=spec.style).test_client()
