"""`faasflow doctor`: what is in force, and what is wrong with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_httpserver import HTTPServer

from faasflow.config import Settings
from faasflow.local import Gateway, load_stack
from faasflow.runtime import Handler, build_engine
from faasflow.stores import open_state_store
from faasflow.testing import FakeClock, InProcessTransport
from tests.servers.fixtures import Run
from tests.servers.redis import RedisServer
from tests.support import free_port

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def gateway() -> Iterator[HTTPServer]:
    with HTTPServer("127.0.0.1", free_port()) as gateway:
        gateway.expect_request("/healthz").respond_with_data("OK")
        yield gateway


@pytest.fixture
def environ(tmp_path: Path, gateway: HTTPServer) -> dict[str, str]:
    """A function in which nothing is wrong."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("faasflow-hmac-secret", "basic-auth-user", "basic-auth-password"):
        (secrets / name).write_text(f"hunter2 of {name}")
    return {
        "fprocess": "python index.py",
        "exec_timeout": "60s",
        "read_timeout": "65s",
        "write_timeout": "65s",
        "OPENFAAS_NAME": "orders",
        "gateway": gateway.url_for("/"),
        "state_dir": str(tmp_path / "state"),
        "secret_mount_path": str(secrets),
    }


def doctor(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faasflow.cli", "doctor", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ROOT, "PYTHONUTF8": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def checks(said: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in said.stdout.splitlines() if line[:1] in "✓✗!" and line]


def test_a_function_in_which_nothing_is_wrong(tmp_path: Path, environ: dict[str, str]) -> None:
    said = doctor(tmp_path, **environ)

    assert (said.returncode, said.stderr) == (0, "The settings of this environment:\n")
    assert [line.partition(":")[0] for line in checks(said)] == [
        "✓ gateway",
        "✓ state store",
        "✓ data store",
        "✓ clock",
        "✓ signing",
        "✓ timeouts",
    ]


def test_settings_are_shown_with_where_they_came_from(tmp_path: Path, environ: dict[str, str]) -> None:
    said = doctor(tmp_path, "--json", **environ, trace_server="jaeger:6831")
    settings = {entry["name"]: (entry["value"], entry["from"]) for entry in json.loads(said.stdout)["settings"]}

    assert settings["exec_timeout"] == ("60s", "environment")
    assert settings["call_timeout"] == ("60s", "default")
    assert settings["faasflow-hmac-secret"] == ("****", "secret file")
    assert settings["enable_tracing"] == ("false", "default")
    assert settings["trace_server"] == ("jaeger:6831", "environment (not used: enable_tracing is false)")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"exec_timeout": "soon"},
            "✗ settings: Setting 'exec_timeout' is 'soon', which is not understood. Give a ",
        ),
        ({"secret_mount_path": "/none"}, "✗ settings: Secret 'faasflow-hmac-secret' cannot be read at '/none/faasf"),
        (
            {"gateway": "127.0.0.1:9"},
            "✗ gateway: URL 'http://127.0.0.1:9/healthz' cannot be connected to: Connection refused.",
        ),
        ({"state_store": "tape://x"}, "✗ state store: tape://x: The store URL 'tape://x' cannot be understood."),
        ({"data_store": "sqlite:////proc/none/x.db"}, "✗ data store: sqlite:////proc/none/x.db: "),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_ends_with_1(
    tmp_path: Path, environ: dict[str, str], change: dict[str, str], line: str
) -> None:
    said = doctor(tmp_path, **environ | change)
    [bad] = [found for found in checks(said) if found.startswith("✗")]

    assert said.returncode == 1
    assert bad.startswith(line)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"validate_request": "false"}, "! signing: messages between nodes are not signed: "),
        ({"state_store": "memory:"}, "! state store: memory: is gone with the process. Set state_store "),
        ({"call_timeout": "2m"}, "! timeouts: call_timeout (120 s) is longer than exec_timeout (60 s)"),
    ],
)
def test_what_may_be_meant_so_is_a_warning(
    tmp_path: Path, environ: dict[str, str], change: dict[str, str], line: str
) -> None:
    said = doctor(tmp_path, **environ | change)
    [warning] = [found for found in checks(said) if found.startswith("!")]

    assert said.returncode == 0
    assert warning.startswith(line)


def test_a_redis_that_may_lose_what_it_acknowledged_is_a_warning(
    tmp_path: Path, environ: dict[str, str], run_server: Run[RedisServer]
) -> None:
    server = run_server(RedisServer(tmp_path / "redis"))
    said = doctor(tmp_path, **environ | {"state_store": server.url})
    [warning] = [found for found in checks(said) if found.startswith("!")]

    assert said.returncode == 0
    assert warning.startswith(f"! state store: {server.url}: Redis at ")
    assert warning.endswith("Set appendonly to yes and appendfsync to always.")


def test_a_clock_that_stands_still_is_told_with_the_way_out(tmp_path: Path, environ: dict[str, str]) -> None:
    began, transport = FakeClock(time.time() - 200), InProcessTransport()
    handler, settings = Handler(define=define_chain), Settings.from_environment(environ)
    build_engine(handler, settings, transport=transport, clock=began).start(b"")
    late = doctor(tmp_path, **environ)
    build_engine(handler, settings, transport=transport).tick()
    again = doctor(tmp_path, **environ)

    assert (late.returncode, again.returncode) == (1, 0)
    assert re.search(r"^✗ clock: it never ticked, and something is due for 2 min\. Set tick", late.stdout, re.M)
    assert re.search(r"^✓ clock: it runs, last tick \d+ s ago$", again.stdout, re.M)


def test_a_clock_that_is_apart_is_told_with_the_way_out(tmp_path: Path, environ: dict[str, str]) -> None:
    ahead, transport = FakeClock(time.time() + 3.2 * 3600), InProcessTransport()
    handler, settings = Handler(define=define_chain), Settings.from_environment(environ)
    build_engine(handler, settings, transport=transport, clock=ahead).tick()
    told = doctor(tmp_path, **environ)

    assert told.returncode == 0
    line = r"^. time: the clock of this process is 3 h behind the others\. Set the clock of its machine\."
    assert re.search(line, told.stdout, re.M)


def test_records_that_cannot_be_read_are_told_with_where_they_are_listed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    handler, settings = Handler(define=define_chain), Settings.from_environment(environ)
    build_engine(handler, settings, transport=InProcessTransport()).start(b"", request_id="r1")
    with closing(open_state_store(settings.state_store)) as store:
        store.set(f"faasflow/{settings.flow}/r1/request", b"{}")
    told = doctor(tmp_path, **environ)

    assert told.returncode == 0
    assert f"! records: this version cannot read r1, which is set aside. See: faasflow unreadable {settings.flow}" in (
        told.stdout
    )


def define_chain(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("a").modify(bytes.upper)
    dag.node("b").modify(bytes.upper)
    dag.edge("a", "b")


@pytest.mark.parametrize(("status", "expected"), [(200, "✓ gateway login"), (401, "✗ gateway login")])
def test_the_login_of_the_gateway_is_tried(
    tmp_path: Path, environ: dict[str, str], gateway: HTTPServer, status: int, expected: str
) -> None:
    gateway.expect_request("/system/info").respond_with_data("", status)
    said = doctor(tmp_path, **environ, gateway_auth="basic")
    sent, _ = gateway.log[1]

    assert [line.partition(":")[0] for line in checks(said)][1] == expected
    assert sent.headers["Authorization"].startswith("Basic ")
    assert said.returncode == (0 if status == 200 else 1)


def test_no_secret_is_shown(tmp_path: Path, environ: dict[str, str]) -> None:
    wrong = {"state_store": "tape://user:hunter2@host", "data_store": "consul://hunter2@x?token=hunter2"}
    for extra in ((), ("--json",)):
        said = doctor(tmp_path, *extra, **environ | wrong, gateway_auth="basic")

        assert said.returncode == 1
        assert "hunter2" not in said.stdout + said.stderr


def test_a_store_is_left_as_it_was(tmp_path: Path, environ: dict[str, str]) -> None:
    from faasflow.stores import open_state_store

    doctor(tmp_path, **environ)
    store = open_state_store(f"sqlite://{tmp_path}/state/orders.db")
    store.init()

    assert store.list("") == {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "greet").mkdir(parents=True)
    (folder / "greet" / "handler.py").write_text("def define(flow, context): flow.sync_node().modify(bytes.upper)\n")
    greet: dict[str, Any] = {"lang": "faas-flow", "handler": "./greet", "environment": {"call_timeout": "7s"}}
    (folder / "stack.yml").write_text(yaml.safe_dump({"functions": {"greet": greet}}))
    return folder


@pytest.mark.parametrize("target", [(), ("greet",), ("greet/handler.py",)])
def test_a_flow_is_looked_at_as_the_laptop_runs_it(project: Path, target: tuple[str, ...]) -> None:
    gateway = Gateway(load_stack(project / "stack.yml"), state_dir=project / ".faasflow", port=0)
    threading.Thread(target=gateway.start).start()
    try:
        said = doctor(project, *target, "--gateway", gateway.url)
    finally:
        gateway.stop(grace=1)
    rows = {line.split()[0]: line.split(None, 2)[1:] for line in said.stdout.splitlines() if line}

    assert said.returncode == 0, said.stdout
    assert said.stderr == "The settings of greet under `faasflow up`:\n"
    assert rows["call_timeout"] == ["7s", "stack file"]
    assert rows["gateway"] == [gateway.url, "faasflow up"]


def test_a_laptop_on_which_nothing_runs_is_told_what_to_start(project: Path) -> None:
    said = doctor(project, "greet", "--gateway", f"http://127.0.0.1:{free_port()}")

    assert said.returncode == 1
    assert [line.partition(":")[0] for line in checks(said)] == ["✗ state folder", "✗ gateway"]
    assert "`faasflow up` has not run here" in said.stdout
    assert not (project / ".faasflow").exists()


def test_a_flow_behind_a_real_gateway_is_looked_at_from_outside(project: Path, gateway: HTTPServer) -> None:
    gateway.expect_request("/function/greet/_/ready").respond_with_data("OK")
    gateway.expect_request("/function/greet/_/health").respond_with_data(
        "OK\nclock: no tick for 300 s\ntime: the clock is 3 h ahead.\n"
    )
    rows = [{"key": f"$timers/{number}", "request_id": "", "why": "It is no JSON."} for number in range(5)]
    gateway.expect_request("/function/greet/flow/unreadable").respond_with_json({"flow": "greet", "unreadable": rows})
    said = doctor(project, "greet", "--gateway", gateway.url_for("/"))

    assert said.returncode == 1
    assert said.stderr == f"The settings of greet as its stack file has them, behind http://127.0.0.1:{gateway.port}:\n"
    assert [line.partition(":")[0] for line in checks(said)] == [
        "✓ gateway",
        "✓ flow",
        "✗ clock",
        "! time",
        "! records",
        "! stores, secrets and timeouts",
    ]
    assert "cannot read $timers/0, $timers/1, $timers/2 and 2 more, which is set aside." in said.stdout
    assert "call_timeout" in said.stdout
    assert not (project / ".faasflow").exists()


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "the gateway has no function 'greet'. Deploy it"), (503, "greet is not ready: /_/ready answered 503: away")],
)
def test_a_flow_that_is_not_behind_the_gateway_or_not_ready(
    project: Path, gateway: HTTPServer, status: int, reason: str
) -> None:
    gateway.expect_request("/function/greet/_/ready").respond_with_data("away", status)
    said = doctor(project, "greet", OPENFAAS_URL=gateway.url_for("/"))

    assert said.returncode == 1
    assert f"✗ flow: {reason}" in said.stdout
