"""A flow served by `index.py`, as of-watchdog runs it in a container."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.support import free_port, wait_until
from tests.template.build_folder import TEMPLATE
from tests.template.dockerfile import read_dockerfile

# What the image sets for the watchdog and its child.
IMAGE = {
    name: value
    for line in read_dockerfile(TEMPLATE / "Dockerfile").stages["ship"].all("ENV")
    for name, _, value in (word.partition("=") for word in line.words)
}


class Served:
    """The process of `python index.py` in a build folder; its output goes to `log`."""

    def __init__(self, python: Path, folder: Path, environment: Mapping[str, str], log: IO[bytes]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [str(python), "index.py"],
            cwd=folder,
            env={**IMAGE, "PATH": os.environ["PATH"], "upstream_url": self.url, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"index.py ended with {self.process.returncode}"
        return self.get_status("/_/ready") == 200

    def get_status(self, path: str, *, timeout: float = 5.0) -> int:
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def terminate(self) -> None:
        """Send what a platform sends to end a function."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def serving(python: Path, folder: Path, environment: Mapping[str, str], log: Path) -> Iterator[Served]:
    """Serve until the block ends; `log` is shown if the function does not become ready."""
    with log.open("wb") as output:
        served = Served(python, folder, environment, output)
        try:
            try:
                wait_until(served.is_ready, "index.py to be ready", timeout=60)
            except AssertionError as error:
                raise AssertionError(f"{error}. It said:\n{log.read_text()}") from error
            yield served
        finally:
            served.process.kill()
            served.process.wait()
