"""The packages that the requirements.txt of a function names: whether they are here, and how they are installed, for
this function alone. A function imports its own before those of this environment, as in its container."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from faasflow.errors import GatewayError
from faasflow.local.stack import FunctionSpec

INSTALL = "`faasflow up --install` installs it"

_REQUIREMENTS = "requirements.txt"
_STAMP = ".requirements"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def requirements_of(folder: Path) -> list[str]:
    """The lines of a handler's requirements.txt that name something."""
    try:
        lines = (folder / _REQUIREMENTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def missing_packages(spec: FunctionSpec) -> list[str]:
    """The packages that a function's requirements.txt names and that are neither installed for it nor here. Of a line
    that is no plain name with a version, nothing is known."""
    if _is_installed(spec):
        return []
    names = [_NAME.match(line) for line in requirements_of(spec.handler) if ";" not in line and "/" not in line]
    return [name[0] for name in names if name is not None and not _is_here(name[0])]


def is_to_install(spec: FunctionSpec) -> bool:
    """Whether a function has a requirements.txt of which not all was installed for it, in the version that is there."""
    return spec.is_hosted and bool(requirements_of(spec.handler)) and not _is_installed(spec)


def install(spec: FunctionSpec) -> None:
    """Install what a function's requirements.txt names, with pip or else uv, into a folder of its own. `GatewayError`
    with the installer's last words if it fails: what was installed before stays."""
    assert spec.packages is not None
    fresh = spec.packages.with_name(f"{spec.packages.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o700)
    command = [*_installer(), "--quiet", "--target", str(fresh), "-r", _REQUIREMENTS]
    done = subprocess.run(command, cwd=spec.handler, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise GatewayError(f"The requirements.txt of function {spec.name!r} cannot be installed: {said}")
    (fresh / _STAMP).write_text(_stamp(spec))
    shutil.rmtree(spec.packages, ignore_errors=True)
    fresh.rename(spec.packages)


def install_hint(error: BaseException, folder: Path) -> str:
    """What to do about a handler that could not be loaded, if a module is not there that its requirements.txt may
    bring."""
    if isinstance(error.__cause__, ModuleNotFoundError) and requirements_of(folder):
        return f"Its requirements.txt is not installed here; {INSTALL}."
    return ""


def _installer() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise GatewayError(f"There is neither pip nor uv for {sys.executable!r}. Install one of them.")
    return [uv, "pip", "install", "--python", sys.executable]


def _is_installed(spec: FunctionSpec) -> bool:
    try:
        return spec.packages is not None and (spec.packages / _STAMP).read_text() == _stamp(spec)
    except OSError:
        return False


def _stamp(spec: FunctionSpec) -> str:
    text = (spec.handler / _REQUIREMENTS).read_bytes() + sys.version.encode()
    return hashlib.sha256(text).hexdigest()


def _is_here(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
