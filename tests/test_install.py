"""The first thing that runs on a fresh machine: it refuses an old Python in words, and does nothing twice."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent / "requirements"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer, working on a copy of the locks that nothing is installed from yet."""
    shutil.copytree(FOLDER, tmp_path / "requirements")
    shutil.copy(FOLDER.parent / "pyproject.toml", tmp_path)
    spec = importlib.util.spec_from_file_location("install", tmp_path / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(install: ModuleType, lock: str) -> None:
    environment = install.Environment(install.PROJECT / ".venv", None)
    environment.folder.mkdir(exist_ok=True)
    environment.stamp(lock).write_text(install.checksum(lock))


def holds(install: ModuleType, lock: str) -> bool:
    answer: bool = install.Environment(install.PROJECT / ".venv", None).holds(lock)
    return answer


def test_an_old_python_is_refused_with_the_way_out(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))

    with pytest.raises(SystemExit, match=r"needs Python 3.11 or newer, but .* is 3.10.13.*make PYTHON="):
        install.require_python()


def test_nothing_is_installed_at_first(install: ModuleType) -> None:
    assert not holds(install, "runtime")


def test_a_lock_also_holds_what_the_narrower_ones_name(install: ModuleType) -> None:
    installed(install, "demo")

    assert [lock for lock in ("runtime", "demo", "dev") if holds(install, lock)] == ["runtime", "demo"]


@pytest.mark.parametrize("name", ["requirements/dev.txt", "requirements/build.txt", "pyproject.toml"])
def test_a_changed_lock_is_installed_again(install: ModuleType, name: str) -> None:
    installed(install, "dev")

    with (install.PROJECT / name).open("a") as file:
        file.write("\n")

    assert not holds(install, "dev")


def test_another_python_version_is_installed_again(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(install, "dev")

    monkeypatch.setattr(install, "python_version", lambda: "python3.99")

    assert not holds(install, "dev")


def test_the_first_command_that_fails_is_named(install: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"failed with status 3.*: \S+ -c import sys; sys.exit\(3\)"):
        install.run(sys.executable, "-c", "import sys; sys.exit(3)")


def test_uv_takes_packages_from_where_pip_is_set_to(install: ModuleType) -> None:
    listed = """global.index-url='https://mirror.example/simple'
install.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
:env:.find-links='/wheels /more'
:env:.cert='/etc/ca.pem'
global.constraint='/etc/constraints.txt'
"""

    assert install.uv_settings(listed) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_each_step_is_shown_before_it_runs_and_with_the_time_it_took(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(install, "run", lambda *command, environment=None: shown.append(capsys.readouterr().err))
    monkeypatch.setattr(install.Environment, "check", lambda self: None)
    environment = install.Environment(install.PROJECT / ".venv", None)
    (environment.folder / "bin").mkdir(parents=True)
    environment.python.symlink_to(sys.executable)

    environment.install("demo")

    assert [text.splitlines()[-1] for text in shown] == [
        f"  1/4 making the environment with Python 3.{sys.version_info.minor} ...",
        f"  2/4 installing the tools that build packages ({install.count('build')} packages) ...",
        f"  3/4 downloading and installing {install.count('demo')} packages ...",
        "  4/4 installing faasflow ...",
    ]
    assert re.search(r"^Installed in \d+ s\.$", capsys.readouterr().err, re.MULTILINE)
