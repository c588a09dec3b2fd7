"""`faasflow up` serves a stack until it is told to stop."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.cli.support import ECHO, LIMIT, SHOUT, Project, processes_in
from tests.support import free_port, wait_until


@pytest.fixture
def up(project: Project) -> Iterator[Callable[..., tuple[str, subprocess.Popen[bytes]]]]:
    """Starts `faasflow up` and gives its URL."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> tuple[str, subprocess.Popen[bytes]]:
        port = free_port()
        started.append(project.start("up", "--port", str(port), *options))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: requests.get(f"{url}/healthz").ok or started[-1].poll() is not None, "the gateway answers")
        return url, started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def lines_until(process: subprocess.Popen[bytes], last: str) -> list[str]:
    """What is written up to a line."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != last:
        line = process.stdout.readline().decode()
        assert line, lines
        lines.append(line.rstrip("\n"))
    return lines


def test_functions_are_served_until_ctrl_c(
    project: Project, up: Callable[..., tuple[str, subprocess.Popen[bytes]]]
) -> None:
    project.flow("echo", ECHO)
    project.function("shout", SHOUT)

    url, process = up()
    shown = lines_until(process, "ready")
    answers = [requests.post(f"{url}/function/{name}", data=b"a").text for name in ("echo", "shout")]
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=LIMIT)

    assert f"echo     {url}/function/echo  running" in shown
    assert answers == ["a", "A"]
    assert b"[shout] shouting\n" in output
    assert output.endswith(b"stopped\n")
    assert (process.returncode, errors) == (0, b"")
    assert processes_in(project.folder) == []
    assert (project.folder / ".faasflow").is_dir()


def test_a_state_folder_can_be_chosen(project: Project, up: Callable[..., tuple[str, subprocess.Popen[bytes]]]) -> None:
    project.flow("echo", ECHO)

    up("--state-dir", "kept", "--workers", "2")

    assert (project.folder / "kept").is_dir()
    assert not (project.folder / ".faasflow").exists()


def test_a_changed_handler_is_served_anew_when_asked_to(
    project: Project, up: Callable[..., tuple[str, subprocess.Popen[bytes]]]
) -> None:
    handler = project.flow("echo", ECHO)
    url, _ = up("--reload")
    assert requests.post(f"{url}/function/echo", data=b"a").text == "a"

    handler.write_text(handler.read_text().replace("data: data", "data: data * 2"))

    wait_until(lambda: requests.post(f"{url}/function/echo", data=b"a").text == "aa", "the new handler answers")


def test_whoever_reads_the_log_may_go(project: Project, up: Callable[..., tuple[str, subprocess.Popen[bytes]]]) -> None:
    project.function("shout", SHOUT)
    url, process = up()
    lines_until(process, "ready")

    assert process.stdout is not None
    process.stdout.close()
    answers = [requests.post(f"{url}/function/shout", data=b"a").text for _ in range(5)]

    assert answers == ["A"] * 5
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=LIMIT) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stdout = None


def test_a_port_in_use_is_told_with_a_way_out(
    project: Project, up: Callable[..., tuple[str, subprocess.Popen[bytes]]]
) -> None:
    project.flow("echo", ECHO)
    url, _ = up()

    second = project.run("up", "--port", url.rpartition(":")[2], "--state-dir", "another")

    assert second.returncode == 1
    assert b"Address already in use. Choose another with --port." in second.stderr


def test_other_names_of_the_gateway_are_allowed_by_name(
    project: Project, up: Callable[..., tuple[str, subprocess.Popen[bytes]]]
) -> None:
    project.flow("echo", ECHO)
    url, _ = up("--allow-host", "flows.test", "--allow-host", "jobs.test")
    statuses = [requests.get(url, headers={"Host": f"{name}.test"}).status_code for name in ("flows", "jobs", "evil")]

    refused = project.run("up", "--allow-host", "http://flows.test")

    assert statuses == [200, 200, 421]
    assert refused.returncode == 2
    assert b"'http://flows.test' is not a host name." in refused.stderr
