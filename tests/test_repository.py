"""What holds for every tracked file, and for what is shipped."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Written in pieces, so that this file does not find itself.
REGISTRIES = (
    "py" + "pi.",
    "python" + "hosted.",
    "npm" + "js.",
    "deb.debian" + ".org",
    "crates" + ".io",
    "proxy." + "golang",
)
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:work|root|opt/py" + r"pi)(?=/|\b)")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def lines() -> Iterator[tuple[str, str]]:
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            for number, line in enumerate(data.decode().splitlines(), 1):
                if "--hash=sha256:" not in line:
                    yield f"{path.relative_to(ROOT)}:{number}", line


def test_no_file_names_a_package_registry() -> None:
    assert [place for place, line in lines() if any(host in line.lower() for host in REGISTRIES)] == []


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert [place for place, line in lines() if MACHINE_PATHS.search(line)] == []


def test_nothing_is_left_to_be_done_later() -> None:
    assert [place for place, line in lines() if UNFINISHED.search(line)] == []


@pytest.mark.parametrize("lock", ["build", "demo", "dev", "runtime"])
def test_every_locked_package_has_one_version_and_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{lock}.txt").read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]

    assert packages
    assert [entry for entry in packages if not re.match(r"[a-z0-9-]+==\S+ .*\\\n +--hash=sha256:", entry)] == []


def test_narrow_locks_name_the_same_versions_as_the_wide_one() -> None:
    wide = _pins("dev")

    for lock in ("build", "demo", "runtime"):
        assert _pins(lock) - wide == set()


def test_the_template_holds_the_package_as_a_link_and_not_as_a_copy() -> None:
    link = ROOT / "template" / "faas-flow" / "faasflow"

    assert link.is_symlink()
    assert os.readlink(link) == "../../faasflow"


def test_the_changelog_has_a_section_for_this_version_or_for_what_comes() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert {version, "Unreleased"} & set(headings)


def _pins(lock: str) -> set[str]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return set(re.findall(r"^[a-z0-9-]+==[^\s\\]+", text, re.MULTILINE))
