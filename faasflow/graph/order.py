"""A topological order that is kept while edges arrive, so that a cycle is found at the edge that closes it.

After Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic graphs" (2007): an edge that agrees
with the order costs nothing, one that does not reorders only the nodes between its ends. A node without edges on the
side in question is moved to the border, so that a chain costs the same from whichever end it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class TopologicalOrder:
    """The order of a growing graph, and its edges by node."""

    def __init__(self) -> None:
        self._rank: dict[str, int] = {}
        self._after: dict[str, dict[str, None]] = {}
        self._before: dict[str, dict[str, None]] = {}
        self._first = 0
        self._last = 0

    def add(self, node: str) -> None:
        """A node without edges, behind all others; one that is there already stays where it is."""
        if node not in self._rank:
            self._last += 1
            self._rank[node] = self._last
            self._after[node] = {}
            self._before[node] = {}

    def link(self, source: str, target: str) -> list[str]:
        """Add an edge between two nodes that were added. Gives the nodes of the cycle it would close, from `target` to
        `source`; then the edge is not added. Else an empty list."""
        if source == target:
            return [source]
        if self._rank[source] > self._rank[target]:
            cycle = self._make_room(source, target)
            if cycle:
                return cycle
        self._after[source][target] = None
        self._before[target][source] = None
        return []

    def _make_room(self, source: str, target: str) -> list[str]:
        if not self._before[source]:
            self._first -= 1
            self._rank[source] = self._first
            return []
        if not self._after[target]:
            self._last += 1
            self._rank[target] = self._last
            return []
        low, high = self._rank[target], self._rank[source]
        forward = self._reach(target, self._after, low, high)
        if source in forward:
            return _path(forward, source)
        self._reorder(self._reach(source, self._before, low, high), forward)
        return []

    def _reach(self, start: str, edges: Mapping[str, Iterable[str]], low: int, high: int) -> dict[str, str]:
        """Every node reached from `start` between two ranks, with the node it was reached from."""
        found = {start: start}
        waiting = [start]
        while waiting:
            node = waiting.pop()
            for neighbour in edges[node]:
                if neighbour not in found and low <= self._rank[neighbour] <= high:
                    found[neighbour] = node
                    waiting.append(neighbour)
        return found

    def _reorder(self, backward: Iterable[str], forward: Iterable[str]) -> None:
        moved = sorted(backward, key=self._rank.__getitem__) + sorted(forward, key=self._rank.__getitem__)
        ranks = sorted(self._rank[node] for node in moved)
        self._rank.update(zip(moved, ranks, strict=True))


def _path(reached_from: Mapping[str, str], end: str) -> list[str]:
    path = [end]
    while reached_from[path[-1]] != path[-1]:
        path.append(reached_from[path[-1]])
    return path[::-1]
