"""Gateways to test against: in this process with real function processes, or a process of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from faasflow.local import Gateway, load_stack
from tests.local.support import GatewayProcess
from tests.support import free_port


class Project:
    """A folder with a stack file that grows by one function at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack_file = folder / "stack.yml"
        self._functions: dict[str, dict[str, Any]] = {}

    def function(self, name: str, code: str, *, lang: str = "python3-http", **settings: Any) -> Path:
        handler = self.folder / name / "handler.py"
        handler.parent.mkdir(exist_ok=True)
        handler.write_text(textwrap.dedent(code))
        self._functions[name] = {"lang": lang, "handler": f"./{name}", "image": f"{name}:latest", **settings}
        self._write()
        return handler

    def forget(self, name: str) -> None:
        """Remove the entry of a function."""
        del self._functions[name]
        self._write()

    def _write(self) -> None:
        self.stack_file.write_text(yaml.safe_dump({"functions": self._functions}))


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways for a project, or for upstreams alone, and stops them."""
    started: list[Gateway] = []

    def start(project: Project | None = None, **options: Any) -> Gateway:
        stack = None if project is None else load_stack(project.stack_file)
        gateway = Gateway(stack, **{"port": free_port(), "state_dir": tmp_path / ".faasflow"} | options)
        started.append(gateway)
        gateway.start()
        return gateway

    yield start
    for gateway in started:
        gateway.stop(grace=2)


@pytest.fixture
def run_gateway(project: Project) -> Iterator[Callable[..., GatewayProcess]]:
    """Runs `python -m faasflow.local` on a project, and ends it."""
    started: list[GatewayProcess] = []

    def run(*options: str) -> GatewayProcess:
        gateway = GatewayProcess(project.folder, *options)
        started.append(gateway)
        return gateway

    yield run
    for gateway in started:
        gateway.end()


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session
