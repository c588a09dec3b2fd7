"""Fills a virtual environment with exactly what one lock of this folder names, and this project on top.

    python3 requirements/install.py {runtime,demo,dev} [--venv .venv] [--wheel FILE]

Standard library only: it is the first thing that runs on a fresh machine. Doing it again changes nothing until a lock,
the project's metadata or the Python version changes; what was installed is remembered as a checksum in the environment.
`dev` holds everything that `demo` does, and `demo` everything that `runtime` does. `build` is installed before them: it
builds this project and the packages that come as source, so that nothing is fetched outside the locks. It brings uv,
which installs everything else: several times as fast as pip, from the index that pip is set to.
"""

import argparse
import ast
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import time
from contextlib import contextmanager

OLDEST = (3, 11)
FOLDER = pathlib.Path(__file__).resolve().parent
PROJECT = FOLDER.parent
LOCKS = ("runtime", "demo", "dev")
STEPS = 4
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


def main():
    arguments = parse_arguments()
    require_python()
    environment = Environment(PROJECT / arguments.venv, arguments.wheel)
    if not environment.holds(arguments.lock):
        environment.install(arguments.lock)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Install what a lock names into a virtual environment.")
    parser.add_argument("lock", choices=LOCKS)
    parser.add_argument("--venv", default=".venv", help="folder of the environment (default: .venv)")
    parser.add_argument("--wheel", type=pathlib.Path, help="install this wheel instead of the working tree")
    return parser.parse_args()


def require_python():
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"faasflow needs Python 3.11 or newer, but {sys.executable!r} is {found}. "
            "Name another one: make PYTHON=/path/to/python3.11 ..."
        )


class Environment:
    """One virtual environment and the record of what was installed into it."""

    def __init__(self, folder, wheel):
        self.folder = folder
        self.wheel = wheel
        self.python = folder / "bin" / "python"

    def holds(self, lock):
        wider = LOCKS[LOCKS.index(lock) :]
        return any(self.stamp(name).is_file() and self.stamp(name).read_text() == checksum(name) for name in wider)

    def install(self, lock):
        began = time.monotonic()
        say(f"Installing what requirements/{lock}.txt names into {self.folder}; this is done once.")
        with step(1, f"making the environment with Python {python_version().removeprefix('python')}"):
            self.create()
        with step(2, f"installing the tools that build packages ({count('build')} packages)"):
            self.pip("--require-hashes", "-r", str(FOLDER / "build.txt"))
        with step(3, f"downloading and installing {count(lock)} packages"):
            self.uv("install", "--require-hashes", "--no-build-isolation", "-r", str(FOLDER / f"{lock}.txt"))
        with step(4, "installing faasflow"):
            project = [str(self.wheel)] if self.wheel else ["--no-build-isolation", "--editable", str(PROJECT)]
            self.uv("install", "--no-deps", "--reinstall-package", "faasflow", *project)
            self.check()
        self.stamp(lock).write_text(checksum(lock))
        say(f"Installed in {time.monotonic() - began:.0f} s.")

    def create(self):
        other_version = not (self.folder / "lib" / python_version()).is_dir()
        clear = ["--clear"] if self.folder.exists() and other_version else []
        run(sys.executable, "-m", "venv", *clear, str(self.folder))

    def pip(self, *arguments):
        run(str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *arguments)

    def uv(self, command, *arguments):
        run(*self.uv_command(command), "--quiet", *arguments, environment=self.uv_environment())

    def uv_command(self, command):
        return [str(self.folder / "bin" / "uv"), "pip", command, "--python", str(self.python)]

    def uv_environment(self):
        """Ours, with what pip is set to about where packages come from: uv reads none of pip's settings."""
        listed = subprocess.run([str(self.python), "-m", "pip", "config", "list"], capture_output=True, text=True)
        # Hashes are checked, so it does no harm to take a file from whichever index has it, as pip does.
        return {"UV_INDEX_STRATEGY": "unsafe-best-match", **uv_settings(listed.stdout), **os.environ}

    def check(self):
        done = subprocess.run(self.uv_command("check"), capture_output=True, text=True)
        if done.returncode:
            sys.exit(
                "pyproject.toml asks for what the locks do not name; write them again with make lock.\n"
                f"{done.stdout}{done.stderr}"
            )

    def stamp(self, lock):
        return self.folder / f".installed-{lock}"


def checksum(lock):
    parts = [FOLDER / "build.txt", FOLDER / f"{lock}.txt", PROJECT / "pyproject.toml"]
    digest = hashlib.sha256(python_version().encode())
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


def python_version():
    return "python{}.{}".format(*sys.version_info)


def count(lock):
    return len(re.findall(r"^\S+==", (FOLDER / f"{lock}.txt").read_text(), re.MULTILINE))


def uv_settings(listed):
    """The variables of uv for lines of `pip config list`, such as `global.index-url='https://...'`."""
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        variable = UV_VARIABLES.get(name.rpartition(".")[2])
        if variable:
            found[variable] = " ".join(ast.literal_eval(value).split())
    if "UV_FIND_LINKS" in found:  # the only list that uv separates by commas
        found["UV_FIND_LINKS"] = found["UV_FIND_LINKS"].replace(" ", ",")
    return found


@contextmanager
def step(number, what):
    """Say what begins, and how long it took: downloads may be slow, and silence looks like a hang."""
    began = time.monotonic()
    say(f"  {number}/{STEPS} {what} ...", end="")
    yield
    say(f" {time.monotonic() - began:.0f} s")


def say(text, end="\n"):
    print(text, end=end, file=sys.stderr, flush=True)


def run(*command, environment=None):
    status = subprocess.call(command, env=environment)
    if status:
        say("")
        sys.exit(f"This command failed with status {status}, so nothing can run yet: {' '.join(command)}")


if __name__ == "__main__":
    main()
