"""The path through a flow in a few lines: `read ✓ → { page ✗, summary ✓ } → publish ·`. Pure.

What follows each other is joined by arrows, what runs beside each other stands in braces, what is inside of branches in
brackets behind the node that opens them, as long as something happens there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faasflow.cli.look import Look
from faasflow.cli.story import name_of

Place = Mapping[str, Any]
"""A row of the graph of a story."""

_LIVELY = ("RUNNING", "FAILED", "RETRYING")
_MANY = 24
_RUN = 3
_LONGEST = 1200  # characters
_ENDS = 8


@dataclass(frozen=True, slots=True)
class _Series:
    items: tuple[_Tree, ...]


@dataclass(frozen=True, slots=True)
class _Beside:
    items: tuple[_Tree, ...]


_Tree = _Series | _Beside | str
_Word = tuple[str, str]
"""A text, and the state whose colour it has."""


def path_lines(places: Sequence[Place], look: Look) -> list[str]:
    """The path of a graph, in lines that fit. Of a large one what stands alike is counted."""
    writer = _Writer(places, look)
    words = list(writer.inside(""))
    if sum(len(text) for text, _ in words) > _LONGEST:
        words = list(writer.levels())
    return _wrapped(words, look)


def levels_of(places: Sequence[Place]) -> dict[str, int]:
    """How many nodes come one behind the other before each one, at least; those in branches count from what opens
    these."""
    known = before_each(places)
    depth: dict[str, int] = {}
    for path in _ordered([*known], known):
        depth[path] = max((depth[one] + 1 for one in known[path]), default=0)
    return depth


def before_each(places: Sequence[Place]) -> dict[str, list[str]]:
    """The nodes right before each one; before the first ones in branches stands what opens these."""
    before = {place["path"]: [*(place["after"] or ())] for place in places}
    for path in before:
        around = path.rpartition("/")[0]
        while around and not before[path]:
            opening = around.rpartition("/")[0] + "/" if "/" in around else ""
            outer = opening + around.rpartition("/")[2].partition("=")[0]
            before[path] = [outer] if outer in before else []
            around = around.rpartition("/")[0]
    return {path: [one for one in ones if one in before] for path, ones in before.items()}


def count_text(place: Place) -> str:
    """How far a node in branches, or one that opened them, has got: `37/100, 2 failed`."""
    if executions := place.get("executions"):
        failed = executions.get("FAILED", 0)
        done, of = executions.get("FINISHED", 0) + failed, place["of"]
    elif place.get("branches") and place["kind"] == "foreach":
        done, failed, of = (place["branches"][name] for name in ("done", "failed", "of"))
    else:
        return ""
    counted = f"{done}/{of}" if of is not None else f"{done} done"
    return f"{counted}, {failed} failed" if failed else counted


class _Writer:
    """Writes the nodes of one graph; those that only join the ends of a DAG are left out unless they matter."""

    def __init__(self, places: Sequence[Place], look: Look) -> None:
        self._look = look
        self._by_path = {place["path"]: place for place in places}
        self._is_large = len(places) > _MANY
        self._groups: dict[str, list[str]] = {}
        for place in places:
            self._groups.setdefault(self._group(place["path"]), []).append(place["path"])

    def inside(self, group: str) -> Iterator[_Word]:
        """The nodes of one DAG: the outermost, or that of a branch."""
        members = [path for path in self._groups[group] if not self._is_hidden(path)]
        if members:
            before = {path: [one for one in self._before(path) if one in members] for path in members}
            yield from self._words(arranged(members, before), group)

    def levels(self) -> Iterator[_Word]:
        """The outermost nodes by level, counted; of many levels the first and the last ones."""
        members = [path for path in self._groups[""] if not self._is_hidden(path)]
        before = {path: [one for one in self._before(path) if one in self._by_path] for path in members}
        found = _levels(_ordered(members, before), before)
        arrow = f" {self._look.arrow} "
        for number, level in enumerate(found):
            if len(found) > 2 * _ENDS + 1 and _ENDS <= number < len(found) - _ENDS:
                if number == _ENDS:
                    yield (f"{arrow}{self._look.more} {len(found) - 2 * _ENDS} levels {self._look.more}", "")
                continue
            if number:
                yield (arrow, "")
            yield from self._level(level)

    def _level(self, level: Sequence[str]) -> Iterator[_Word]:
        if len(level) == 1:
            yield from self._node(level[0], "")
            return
        states = [str(self._by_path[path]["state"]) for path in level]
        for number, state in enumerate(dict.fromkeys(states)):
            yield (", " if number else "{ " if len({*states}) > 1 else "", "")
            yield (f"{states.count(state)} nodes {self._look.sign(state)}", state)
        if len({*states}) > 1:
            yield (" }", "")

    def _words(self, tree: _Tree, group: str) -> Iterator[_Word]:
        match tree:
            case str(path):
                yield from self._node(path, group)
            case _Series(items):
                yield from self._listed(items, group, f" {self._look.arrow} ")
            case _Beside(items):
                yield ("{ ", "")
                yield from self._listed(items, group, ", ")
                yield (" }", "")

    def _listed(self, items: Sequence[_Tree], group: str, between: str) -> Iterator[_Word]:
        for number, run in enumerate(self._runs(items)):
            if number:
                yield (between, "")
            if len(run) > 1:
                state = self._state(run[0])
                yield (f"{len(run)} nodes {self._look.sign(state)}", state)
            else:
                yield from self._words(run[0], group)

    def _runs(self, items: Sequence[_Tree]) -> Iterator[list[_Tree]]:
        """The items one by one; of a large graph those that stand alike together, where they are many."""
        run: list[_Tree] = []
        for item in items:
            if run and not (self._is_large and self._state(item) and self._state(item) == self._state(run[0])):
                yield from _split(run)
                run = []
            run.append(item)
        yield from _split(run)

    def _state(self, item: _Tree) -> str:
        """That of a single node which is at rest; nothing for anything else."""
        state = str(self._by_path[item]["state"]) if isinstance(item, str) else ""
        return "" if state in _LIVELY else state

    def _node(self, path: str, group: str) -> Iterator[_Word]:
        place = self._by_path[path]
        state, count = str(place["state"]), count_text(place)
        text = " ".join(filter(None, [self._look.clean(name_of(path[len(group) :])), self._look.sign(state), count]))
        yield (text, state)
        shown = [inner for inner in self._branches(path) if self._is_lively(inner)]
        for number, inner in enumerate(shown):
            yield (" [ " if number == 0 else " | ", "")
            yield from self.inside(inner)
        if shown:
            yield (" ]", "")

    def _branches(self, path: str) -> list[str]:
        """The DAGs inside of a node, as they are named in `_groups`."""
        return [group for group in self._groups if self._is_own(group, path)]

    def _is_own(self, group: str, path: str) -> bool:
        return group == f"{path}/" or (group.startswith(f"{path}=") and "/" not in group[len(path) : -1])

    def _is_lively(self, group: str) -> bool:
        """Whether anything happens in a branch, or went wrong there."""
        return any(str(self._by_path[path]["state"]) in _LIVELY for path in self._by_path if path.startswith(group))

    def _before(self, path: str) -> Iterator[str]:
        """What comes before a node; behind what is left out, what comes before that."""
        for before in self._by_path[path]["after"] or ():
            if before in self._by_path and self._is_hidden(before):
                yield from self._before(before)
            else:
                yield before

    def _is_hidden(self, path: str) -> bool:
        place = self._by_path[path]
        return bool(place.get("is_virtual")) and str(place["state"]) not in _LIVELY

    def _group(self, path: str) -> str:
        """The DAG of a node: the path of the branch around it with a `/` behind, nothing for the outermost."""
        parts = path.split("/")[:-1]
        for length in range(len(parts), 0, -1):
            outer = "/".join([*parts[: length - 1], parts[length - 1].partition("=")[0]])
            if self._by_path.get(outer, {}).get("kind") in ("foreach", "condition"):
                return "/".join(parts[:length]) + "/"
        return ""


def arranged(nodes: Sequence[str], before: Mapping[str, Iterable[str]]) -> _Tree:
    """What of these nodes follows each other, and what runs beside each other; `before` are those before each one."""
    if len(nodes) == 1:
        return nodes[0]
    order = _ordered(nodes, before)
    known = _all_before(order, before)
    behind = {node: sum(node in ones for ones in known.values()) for node in order}
    cuts = [node for node in order if len(known[node]) + behind[node] == len(order) - 1]
    if cuts:
        return _Series(tuple(_pieces(order, cuts, known, before)))
    parts = _components(order, before)
    if len(parts) > 1:
        return _Beside(tuple(arranged(part, _within(part, before)) for part in parts))
    return _Series(tuple(_Beside(tuple(level)) if len(level) > 1 else level[0] for level in _levels(order, before)))


def _pieces(
    order: Sequence[str], cuts: Sequence[str], known: Mapping[str, set[str]], before: Mapping[str, Iterable[str]]
) -> Iterator[_Tree]:
    """The nodes that all others come before or behind, and what stands between them."""
    left = [node for node in order if node not in cuts]
    for cut in cuts:
        piece = [node for node in left if node in known[cut]]
        left = [node for node in left if node not in known[cut]]
        if piece:
            yield from _flat(arranged(piece, _within(piece, before)))
        yield cut
    if left:
        yield from _flat(arranged(left, _within(left, before)))


def _flat(tree: _Tree) -> Iterator[_Tree]:
    if isinstance(tree, _Series):
        yield from tree.items
    else:
        yield tree


def _within(nodes: Sequence[str], before: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {node: [one for one in before[node] if one in nodes] for node in nodes}


def _ordered(nodes: Sequence[str], before: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes in an order in which each comes behind those before it; else that in which they were given."""
    order: dict[str, None] = {}

    for node in nodes:
        left = [node]  # no recursion: a chain may be longer than that can be deep
        while left:
            first = next((one for one in before[left[-1]] if one not in order), None)
            if first is None:
                order[left.pop()] = None
            else:
                left.append(first)
    return list(order)


def _all_before(order: Sequence[str], before: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    known: dict[str, set[str]] = {}
    for node in order:
        known[node] = set(before[node]).union(*(known[one] for one in before[node]))
    return known


def _components(order: Sequence[str], before: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The nodes in groups between which there are no edges."""
    group = {node: {node} for node in order}
    for node in order:
        for one in before[node]:
            if group[one] is not group[node]:
                group[one] |= group[node]
                for member in group[node]:
                    group[member] = group[one]
    return [list(one) for one in dict.fromkeys(tuple(n for n in order if n in group[node]) for node in order)]


def _levels(order: Sequence[str], before: Mapping[str, Iterable[str]]) -> list[list[str]]:
    depth: dict[str, int] = {}
    for node in order:
        depth[node] = max((depth[one] + 1 for one in before[node]), default=0)
    return [[node for node in order if depth[node] == level] for level in range(max(depth.values()) + 1)]


def _split(run: list[_Tree]) -> Iterator[list[_Tree]]:
    if len(run) > _RUN:
        yield run
    else:
        yield from ([item] for item in run)


def _wrapped(words: Sequence[_Word], look: Look) -> list[str]:
    """The words in lines that fit; a line ends where nodes are set apart."""
    lines: list[list[_Word]] = [[]]
    length = 0
    for unit in _units(words):
        size = sum(len(text) for text, _ in unit)
        if (
            look.width is not None
            and lines[-1]
            and length + len("".join(text for text, _ in unit).rstrip()) > look.width
        ):
            lines.append([("  ", "")])
            unit[0] = (unit[0][0].lstrip(), unit[0][1])
            size, length = sum(len(text) for text, _ in unit), 2
        lines[-1] += unit
        length += size
    return ["".join(look.paint(text, state) if state else text for text, state in line).rstrip() for line in lines]


def _units(words: Sequence[_Word]) -> Iterator[list[_Word]]:
    """Words that stay together: what opens, with what comes first inside."""
    unit: list[_Word] = []
    for word in words:
        unit.append(word)
        if word[0] not in ("{ ", " [ "):
            yield unit
            unit = []
