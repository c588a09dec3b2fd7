"""The installer of the servers: it changes nothing twice, and says in a line what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import install


def test_every_program_is_there_and_runs() -> None:
    for name, question in (("consul", "version"), ("etcd", "--version"), ("redis-server", "--version")):
        command = [install.program(name), question]
        subprocess.run(command, check=True, capture_output=True, env=install.environment())


def test_nothing_is_installed_twice_unless_something_changed(tmp_path: Path) -> None:
    assert not install.is_installed(tmp_path)
    (tmp_path / "stamp").write_text("of another release")
    assert not install.is_installed(tmp_path)
    (tmp_path / "stamp").write_text(install.checksum())
    assert install.is_installed(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n",
        "Types: deb\nURIs: http://mirror.example/debian-security\n\nTypes: deb\nURIs: http://mirror.example/debian\n",
        "# comment\ndeb [arch=amd64] http://mirror.example/debian bookworm main\n",
    ],
)
def test_the_older_suite_comes_from_the_mirror_of_this_system(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.sources").write_text(source)

    line = install.older_suite(tmp_path.iterdir())
    assert line.startswith("deb ")
    assert line.endswith(" http://mirror.example/debian bullseye main\n")


def test_a_system_without_a_mirror_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.list").write_text("deb http://other.example/ubuntu noble main\n")

    with pytest.raises(install.InstallError, match="No Debian mirror"):
        install.older_suite(tmp_path.iterdir())


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(install.InstallError, match="'sh' failed: not found here"):
        install.run("sh", "-c", "echo not found here >&2; exit 3")


def test_without_debian_the_missing_servers_are_named(tmp_path: Path) -> None:
    (tmp_path / "etcd").symlink_to("/bin/true")
    said = _install_elsewhere(tmp_path)

    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "'apt-get' is missing" in said.stderr
    assert "Tests need consul, redis-server" in said.stderr


def test_servers_on_the_path_will_do(tmp_path: Path) -> None:
    for name in install.PROGRAMS:
        (tmp_path / name).symlink_to("/bin/true")

    assert _install_elsewhere(tmp_path).returncode == 0


def _install_elsewhere(path: Path) -> subprocess.CompletedProcess[str]:
    """Install into an empty checkout, where `path` holds all programs."""
    checkout = path / "checkout" / "tests" / "servers"
    checkout.mkdir(parents=True)
    script = checkout / "install.py"
    script.write_text(Path(install.__file__).read_text())
    environment = {**os.environ, "PATH": str(path)}
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
