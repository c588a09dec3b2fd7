"""A thousand branches that arrive at one join at the same moment, from several processes, start it once, with all that
they brought. `make joins` does it a hundred times.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faasflow.engine.ledger import Ledger
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.records import RequestRecord
from faasflow.stores import open_state_store
from tests.stores.arrivals import REQUEST_ID, checksum, result_of
from tests.stores.network import KINDS

PROCESSES = 4
REPETITIONS = int(os.environ.get("JOIN_REPETITIONS", "2"))


@pytest.fixture(params=["sqlite", *KINDS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'store.db'}"
    shared: str = request.getfixturevalue(f"{request.param}_server").url
    return shared


@pytest.mark.parametrize("repetition", range(REPETITIONS))
def test_a_thousand_arrivals_at_once_start_the_join_once_with_all_results(url: str, repetition: int) -> None:
    started = _arrive("ledger", url, f"join {repetition}", 1000)

    assert started == [_all_results(1000)]


def test_a_counter_that_is_read_compared_and_written_does_not(url: str) -> None:
    # The original's way, which loses arrivals.
    started = _arrive("counter", url, "counter", 200)

    assert started != [_all_results(200)]


def _all_results(branches: int) -> str:
    return f"{branches} {checksum(map(result_of, range(branches)))}"


def _arrive(way: str, url: str, flow: str, branches: int) -> list[str]:
    """What the processes say of each time that the join was started."""
    store = open_state_store(url)
    store.init()
    Ledger(store, flow, REQUEST_ID).start(RequestRecord(RequestState.RUNNING, "", time.time(), ""), {})
    share = branches // PROCESSES
    bounds = [(first, first + share, branches) for first in range(0, branches, share)]
    processes = [_start(way, url, flow, *map(str, numbers)) for numbers in bounds]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in processes]
    store.cleanup()
    store.close()

    assert [process.returncode for process in processes] == [0] * PROCESSES
    return "".join(said).splitlines()


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stores.arrivals", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
