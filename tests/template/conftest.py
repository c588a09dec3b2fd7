"""What the tests of the template share: an environment with its requirements, and build folders served in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faasflow.local import Gateway
from tests.support import free_port, wait_until
from tests.template.build_folder import TEMPLATE, make_build_folder
from tests.template.serving import Served, serving


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The interpreter of a fresh environment with what the build of an image installs; made once for all workers."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    environment, done = shared / "template-environment", shared / "template-environment-done"
    try:
        environment.mkdir()
    except FileExistsError:
        wait_until(done.exists, "another worker to install what the template needs", timeout=240)
    else:
        folder = make_build_folder(TEMPLATE / "function", shared / "template-requirements")
        _install(environment, folder, "requirements.txt", "function/requirements.txt", "requirements-test.txt")
        done.touch()
    return environment / "bin" / "python"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that serves what tests add to it as upstreams."""
    gateway = Gateway(port=free_port(), state_dir=tmp_path / "gateway")
    gateway.start()
    yield gateway
    gateway.stop(grace=2)


@pytest.fixture
def serve(python: Path, tmp_path: Path, gateway: Gateway) -> Iterator[Callable[..., Served]]:
    """Serves the flow of a handler's folder behind the gateway, from its build folder; `settings` are as in stack.yml.
    State and secrets are below `tmp_path / name`."""
    with ExitStack() as stack:

        def start(handler: Path, name: str = "flow", **settings: str) -> Served:
            home = tmp_path / name
            (home / "secrets").mkdir(parents=True)
            (home / "secrets" / "faasflow-hmac-secret").write_text("a key for tests\n")
            store = f"sqlite://{home}/state/flow.db"
            environment = {
                "gateway": gateway.url,
                "workflow_name": name,
                "state_store": store,
                "data_store": store,
                "secret_mount_path": str(home / "secrets"),
                "healthcheck_interval": "1s",
                **settings,
            }
            folder = make_build_folder(handler, tmp_path / "build" / name)
            served = stack.enter_context(serving(python, folder, environment, home / "log"))
            gateway.add_upstream(name, [served.url])
            return served

        yield start


def _install(environment: Path, folder: Path, *files: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    for file in files:
        command = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", file]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"pip install -r {file}: {done.stderr}"
