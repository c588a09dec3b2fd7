"""A gateway with real function processes, whose every line is kept."""

from __future__ import annotations

import json
import textwrap
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from faasflow.local import Gateway, load_stack
from tests.support import free_port, wait_until

ENDED = {"FINISHED", "FAILED", "STOPPED"}


class Stack:
    """Functions behind a gateway of this process, and the lines they wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._functions: dict[str, dict[str, Any]] = {}
        self._lines: defaultdict[str, list[str]] = defaultdict(list)
        self._lock = threading.Lock()

    def function(self, name: str, code: str, *, lang: str = "faas-flow", **environment: str) -> None:
        handler = self._folder / name / "handler.py"
        handler.parent.mkdir()
        handler.write_text(textwrap.dedent(code))
        self._functions[name] = {"lang": lang, "handler": f"./{name}", "environment": environment}

    def start(self) -> Gateway:
        file = self._folder / "stack.yml"
        file.write_text(yaml.safe_dump({"functions": self._functions}))
        state = self._folder / ".faasflow"
        self.gateway = Gateway(load_stack(file), port=free_port(), state_dir=state, on_line=self._take)
        self.gateway.start()
        return self.gateway

    def post(self, function: str, data: str, *, id: str = "r1", query: str = "", **headers: str) -> requests.Response:
        url = f"{self.gateway.url}/function/{function}?{query}"
        return requests.post(url, data=data, headers={"X-Faas-Flow-Reqid": id} | headers, timeout=30)

    def run(self, function: str, data: str, *, id: str, query: str = "", **headers: str) -> None:
        """Take a request to its end, with all that follows it."""
        self.post(function, data, id=id, query=query, **headers)
        url = f"{self.gateway.url}/function/{function}/flow/{id}"
        wait_until(lambda: requests.get(url, timeout=30).json().get("state") in ENDED, f"{id} to end")

    def lines(self, function: str) -> list[str]:
        """What a function has written so far."""
        with self._lock:
            return [*self._lines[function]]

    def records(self, function: str) -> list[Any]:
        return [json.loads(line) for line in self.lines(function)]

    def _take(self, name: str, line: str) -> None:
        with self._lock:
            self._lines[name].append(line)


@pytest.fixture(scope="module")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Stack]]:
    """Makes stacks, and stops those that were started."""
    made: list[Stack] = []

    def make() -> Stack:
        made.append(Stack(tmp_path_factory.mktemp("stack")))
        return made[-1]

    yield make
    for stack in made:
        if hasattr(stack, "gateway"):
            stack.gateway.stop(grace=2)
