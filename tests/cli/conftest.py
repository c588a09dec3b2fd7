"""A project in a folder of its own, and commands in this process or on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pytest_httpserver import HTTPServer

from faasflow.cli import main
from tests.cli.support import Project, Terminal
from tests.servers.fixtures import run_server
from tests.support import free_port

__all__ = ["run_server"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project in the current folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("OPENFAAS_URL", raising=False)
    return Project(folder)


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def elsewhere(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HTTPServer:
    """A gateway that answers what a test says, and no login for it."""
    monkeypatch.setenv("OPENFAAS_URL", httpserver.url_for("").rstrip("/"))
    monkeypatch.setenv("OPENFAAS_CONFIG", str(tmp_path / "logins"))
    return httpserver


@pytest.fixture
def faasflow() -> Callable[..., Result]:
    """Runs a command in this process."""

    def run(*arguments: str, data: bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=data)

    return run


@pytest.fixture
def terminal(project: Project) -> Iterator[Callable[..., Terminal]]:
    """Runs a command on a terminal."""
    started: list[Terminal] = []

    def run(*arguments: str, **variables: str) -> Terminal:
        started.append(project.on_terminal(*arguments, **variables))
        return started[-1]

    yield run
    for one in started:
        one.close()
