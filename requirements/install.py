"""Fills a virtual environment with exactly what one lock of this folder names, and this project on top.

    python3 requirements/install.py {runtime,demo,dev} [--venv .venv] [--wheel FILE]

Standard library only: it is the first thing that runs on a fresh machine. Doing it again changes nothing until a lock,
the project's metadata or the Python version changes; what was installed is remembered as a checksum in the environment.
`dev` holds everything that `demo` does, and `demo` everything that `runtime` does. `build` is installed before them: it
builds this project and the packages that come as source, so that nothing is fetched outside the locks.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys

OLDEST = (3, 11)
FOLDER = pathlib.Path(__file__).resolve().parent
PROJECT = FOLDER.parent
LOCKS = ("runtime", "demo", "dev")


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
        print(f"Installing requirements/{lock}.txt into {self.folder} ...", file=sys.stderr, flush=True)
        self.create()
        self.pip("--require-hashes", "-r", str(FOLDER / "build.txt"))
        self.pip("--require-hashes", "--no-build-isolation", "-r", str(FOLDER / f"{lock}.txt"))
        project = [str(self.wheel)] if self.wheel else ["--no-build-isolation", "--editable", str(PROJECT)]
        self.pip("--no-deps", *project)
        self.check()
        self.stamp(lock).write_text(checksum(lock))

    def create(self):
        other_version = not (self.folder / "lib" / python_version()).is_dir()
        clear = ["--clear"] if self.folder.exists() and other_version else []
        run(sys.executable, "-m", "venv", *clear, str(self.folder))

    def pip(self, *arguments):
        run(str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *arguments)

    def check(self):
        done = subprocess.run([str(self.python), "-m", "pip", "check"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(
                f"pyproject.toml asks for what the locks do not name; write them anew with make lock.\n{done.stdout}"
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


def run(*command):
    status = subprocess.call(command)
    if status:
        sys.exit(f"This command failed with status {status}, so nothing can run yet: {' '.join(command)}")


if __name__ == "__main__":
    main()
