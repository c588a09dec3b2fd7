"""Unpacks the servers that tests run against into a folder of this checkout: `python3 tests/servers/install.py`.

They are Debian's own packages, fetched by apt-get from where this system fetches its own. Nothing on the system
changes, and nobody has to be root. Doing it again does nothing until another server is needed or the system changes.
Where Debian's package manager is missing, servers that are on the PATH do as well.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".servers"
PROGRAMS = {"consul": "consul", "etcd": "etcd-server", "redis-server": "redis-server"}

# The last release that has Consul.
_OLDER_SUITE = "bullseye"
_APT = Path("/etc/apt")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR = re.compile(r"\bhttps?://\S+/debian/?(?=\s|$)")


def main() -> None:
    if is_installed(FOLDER):
        return
    try:
        require_debian()
        install(FOLDER)
    except InstallError as error:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            sys.exit(f"{error} Tests need {', '.join(missing)}: use a Debian system, or put these on the PATH.")


class InstallError(Exception):
    """The servers cannot be fetched, and why."""


def program(name: str, folder: Path = FOLDER) -> str:
    """The path of a server's program: the unpacked one, else the one on the PATH."""
    unpacked = folder / "usr" / "bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name!r} is not installed. Install it with: make servers")
    return found


def environment(folder: Path = FOLDER) -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    libraries = [str(path) for path in sorted((folder / "usr" / "lib").glob("*-linux-gnu*"))]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)} if libraries else dict(os.environ)


def is_installed(folder: Path) -> bool:
    stamp = folder / "stamp"
    return stamp.is_file() and stamp.read_text() == checksum()


def checksum() -> str:
    release = Path("/etc/os-release")
    parts = [*PROGRAMS.values(), _OLDER_SUITE, platform.machine(), release.read_text() if release.is_file() else ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def require_debian() -> None:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise InstallError(f"The servers are unpacked from Debian's packages, but {tool!r} is missing.")


def install(folder: Path) -> None:
    print(f"Unpacking {', '.join(PROGRAMS.values())} into {folder} ...", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".servers-", dir=folder.parent) as made:
        work = Path(made)
        packages = download(work)
        for package in packages:
            run("dpkg", "-x", str(package), str(work / "root"))
        (work / "root" / "stamp").write_text(checksum())
        shutil.rmtree(folder, ignore_errors=True)
        (work / "root").rename(folder)


def download(work: Path) -> list[Path]:
    """The packages of the servers, and of what they need and this system does not have."""
    sources = work / "sources"
    shutil.copytree(_APT / "sources.list.d", sources)
    if (_APT / "sources.list").is_file():
        shutil.copy(_APT / "sources.list", sources / "system.list")
    (sources / "older.list").write_text(older_suite(sources.iterdir()))
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    options = apt_options(sources, work)
    run("apt-get", *options, "update")
    # Again, if installed: then only what is missing beside it would be fetched.
    run("apt-get", *options, "install", "--yes", "--download-only", "--reinstall", *PROGRAMS.values())
    return sorted((work / "cache" / "archives").glob("*.deb"))


def older_suite(sources: Iterator[Path]) -> str:
    """The line that adds the older release, from the mirror that this system uses."""
    texts = [path.read_text(errors="replace") for path in sorted(sources)]
    mirrors = [match.group() for text in texts for match in _MIRROR.finditer(text)]
    if not mirrors:
        raise InstallError(f"No Debian mirror is named in {str(_APT)!r}.")
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.is_file() else ""
    return f"deb {signed}{mirrors[0]} {_OLDER_SUITE} main\n"


def apt_options(sources: Path, work: Path) -> list[str]:
    """What keeps apt-get out of the system's own folders, and away from its locks."""
    settings = {
        "Dir::Etc::SourceList": os.devnull,
        "Dir::Etc::SourceParts": sources,
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
    }
    return ["-qq", *(f"-o{name}={value}" for name, value in settings.items())]


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InstallError(f"{command[0]!r} failed: {' '.join(lines[-3:])}")


if __name__ == "__main__":
    main()
