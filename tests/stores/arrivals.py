"""One of several processes whose branches arrive at one join: `python -m tests.stores.arrivals <way> <url> <flow>
<first> <behind> <of>` stands for the branches from `first` to before `behind`, of `of` in all, on eight threads.

It says "ready", waits for a line on stdin, lets all branches arrive at once, and says for every time that it started
the join how many results it found there, and their checksum.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from faasflow.engine.joins import place
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.plan import Arrival, Target
from faasflow.engine.position import Phase, Position, Step
from faasflow.errors import KeyNotFoundError
from faasflow.ports import StateStore
from faasflow.stores import open_state_store

REQUEST_ID = "request"
JOIN = Step(Position((), "join"), Phase.NODE)
THREADS = 8


def result_of(branch: int) -> bytes:
    """What a branch brings to the join."""
    return b"result %d" % branch


def checksum(results: Iterable[bytes]) -> str:
    """The same for the same results in any order."""
    return hashlib.sha256(b"\n".join(sorted(results))).hexdigest()


class LedgerJoin:
    """Joins as the engine does: what is recorded and who has arrived are one transaction, which reads the arrivals."""

    def __init__(self, store: StateStore, flow: str, of: int) -> None:
        self._ledger = Ledger(store, flow, REQUEST_ID)
        self._request: StoredRequest | None = self._ledger.read().request
        self._of = of

    def arrive(self, branch: int) -> list[bytes] | None:
        """Record a branch; its results if it is the one that completes the join."""
        assert self._request is not None
        target = Target(JOIN, Arrival(str(branch), branch, self._of))
        level, where = 0, place(target)
        record = {f"node/branch/{branch}": result_of(branch)}
        commit = self._ledger.commit(self._request, create=record, put={where.key: b""}, listing=[where.group])
        assert commit.is_done
        while len(commit.entries) == where.size:
            if where.is_top:
                return list(self._ledger.read([], ["node/branch/"]).entries.values())
            level += 1
            where = place(target, level)
            commit = self._ledger.arrive({where.key: b""}, [where.group])
        return None


class CountingJoin:
    """Joins as the original does: a counter that is read, compared, and then written."""

    def __init__(self, store: StateStore, flow: str, of: int) -> None:
        self._store = store.configure(flow, REQUEST_ID)
        self._of = of

    def arrive(self, branch: int) -> list[bytes] | None:
        """Record a branch; its results if it counts itself as the last one."""
        self._store.set(f"node/branch/{branch}", result_of(branch))
        if self._increment() < self._of:
            return None
        return list(self._store.list("node/branch/").values())

    def _increment(self) -> int:
        while True:
            count = self._count()
            if self._count() == count:
                self._store.set("indegree", b"%d" % (count + 1))
                return count + 1

    def _count(self) -> int:
        try:
            return int(self._store.get("indegree"))
        except KeyNotFoundError:
            return 0


WAYS = {"ledger": LedgerJoin, "counter": CountingJoin}


def main(way: str, url: str, flow: str, first: str, behind: str, of: str) -> None:
    join = WAYS[way](open_state_store(url), flow, int(of))
    with ThreadPoolExecutor(THREADS) as pool:
        print("ready", flush=True)
        sys.stdin.readline()
        for results in pool.map(join.arrive, range(int(first), int(behind))):
            if results is not None:
                print(len(results), checksum(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
