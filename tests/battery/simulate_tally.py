"""What a simulated life has exercised, so that a feature that never happens is seen."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.battery.checker import CALLBACK
from tests.battery.history import SYSTEM, Began, History, Wrote

REPEATED = "messages repeated while worked on"
TOLD_AGAIN = "callbacks given up and told again"
EXERCISED = (
    "leases taken",
    "leases taken over",
    REPEATED,
    "node timeouts",
    "nodes that ended their processes",
    "requests given up",
    "request timeouts",
    "callbacks tried again",
    "callbacks given up",
    TOLD_AGAIN,
    "failed requests retried",
    "messages of the run before",
    "slow store operations",
)
"""All that a simulation can exercise beside the faults as such."""


def tally(history: History) -> Counter[str]:
    """How often what the history shows of it took place."""
    count = _Count()
    for event in history:
        if isinstance(event, Began):
            count.began(event)
        elif isinstance(event, Wrote) and event.request != SYSTEM and event.value is not None:
            count.wrote(event.request, event.key, event.value)
    return count.found


class _Count:
    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._runs: dict[str, int] = {}
        self._leases: dict[tuple[str, str], tuple[str, float]] = {}

    def began(self, event: Began) -> None:
        if event.step and event.run < self._runs.get(event.request, 0):
            self.found["messages of the run before"] += 1

    def wrote(self, request: str, key: str, value: bytes) -> None:
        family = key.partition("/")[0]
        if family == "lease":
            self._lease(request, key, json.loads(value))
        elif family in ("request", "node", "attempt"):
            self._record(request, key, family, json.loads(value))

    def _lease(self, request: str, key: str, record: dict[str, Any]) -> None:
        owner, until = self._leases.get((request, key), ("", 0.0))
        if record["owner"] == owner and record["until"] < until:  # given back
            self._leases.pop((request, key))
            return
        if record["owner"] != owner:
            self.found["leases taken"] += 1
            self.found["leases taken over"] += bool(owner)
        self._leases[request, key] = record["owner"], record["until"]

    def _record(self, request: str, key: str, family: str, record: dict[str, Any]) -> None:
        kind = (record.get("failure") or {}).get("error_type", "")
        if family == "request":
            run, before = record.get("run", 0), self._runs.get(request, 0)
            self._runs[request] = run
            self.found["failed requests retried"] += run > before
            self.found["request timeouts"] += kind == "RequestTimeoutError"
            self.found["requests given up"] += kind == "StuckError"
        elif key.startswith(f"attempt/node/{CALLBACK}"):
            self.found["callbacks tried again"] += 1
        elif key.startswith(f"node/{CALLBACK}"):
            self.found["callbacks given up"] += record["state"] == "FAILED"
        else:
            self.found["node timeouts"] += kind == "NodeTimeoutError"
            self.found["nodes that ended their processes"] += kind == "LostStartError"
            self._leases.pop((request, f"lease/{_step(key, family)}"), None)


def _step(key: str, family: str) -> str:
    """The step whose outcome or attempt stands under a key; its lease goes with it."""
    return key if family == "node" else key.removeprefix("attempt/").rpartition("/")[0]
