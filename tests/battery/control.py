"""Pauses, resumes and stops a request at every boundary of its run, one run for each, and counts what went wrong.

`python -m tests.battery.control` goes through all boundaries of all flows with all programs on SQLite. With `--at` it
plays one run alone, and tells its history:

    python -m tests.battery.control --flow six --program "pause, stop" --at 17
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faasflow.stores import open_data_store, open_state_store
from tests.battery.control_flows import FLOWS
from tests.battery.control_judge import Reference, judge, reference_of
from tests.battery.control_run import PAUSE, RESUME, STOP, Places, Run, Steering, Stuck
from tests.servers.consul import ConsulServer


@dataclass(frozen=True)
class Program:
    """What the second client does: its commands at a boundary, and those when nothing goes on any more."""

    now: tuple[str, ...]
    later: tuple[str, ...] = ()


PROGRAMS: Mapping[str, Program] = {
    "pause": Program((PAUSE,)),
    "stop": Program((STOP,)),
    "pause, resume": Program((PAUSE, RESUME)),
    "pause, pause, resume, resume": Program((PAUSE, PAUSE, RESUME, RESUME)),
    "pause, stop": Program((PAUSE, STOP)),
    "pause, later stop": Program((PAUSE,), (STOP,)),
}
"""What the second client does at a boundary. What it leaves paused it resumes when nothing goes on any more."""

_OFTEN, _SELDOM = 0.15, 0.002  # how often a boundary is steered by chance, and how often that is a stop


@dataclass(frozen=True)
class Case:
    """A flow on a store, steered at each boundary by all programs, or in turn by so many of them as there are to be at
    `each`. The store is `memory`, `sqlite`, a `consul` of its own, or named by a URL."""

    flow: str = "six"
    store: str = "sqlite"
    programs: tuple[str, ...] = tuple(PROGRAMS)
    each: int = len(PROGRAMS)

    def command(self, program: str, at: int) -> str:
        """What plays one run of this case alone."""
        told = f"python -m tests.battery.control --flow {self.flow} --store {self.scheme}"
        return f'{told} --program "{program}" --at {at}'

    @property
    def scheme(self) -> str:
        """The kind of store."""
        return self.store.partition(":")[0]

    def runs(self, points: int) -> Iterator[tuple[int, str]]:
        """Each boundary with the programs for it."""
        count = min(self.each, len(self.programs))
        for point in range(1, points + 1):
            for number in range(count):
                yield point, self.programs[(point * count + number) % len(self.programs)]


@dataclass
class Coverage:
    """How many boundaries the flows have, at how many of them a command was given and of which kinds they are, in how
    many runs. `failures` tell how to see one alone."""

    total: int = 0
    covered: int = 0
    runs: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Coverage) -> None:
        """Count what `other` counted as well."""
        for name in ("total", "covered", "runs", "seconds", "failures"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kinds += other.kinds

    @property
    def is_clean(self) -> bool:
        """Whether every boundary was covered and nothing was wrong."""
        return bool(self.total) and self.covered == self.total and not self.failures

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        return f"{self.covered} of {self.total} boundaries ({kinds}) in {self.runs} runs, {self.seconds:.1f} s"


def bounded_cases(consul: str = "consul") -> list[Case]:
    """Less than a minute's work: every boundary on both stores. Behind one operation and before the next one, where
    nothing changes in between, stand all programs for the plain flow on SQLite: half of them at each boundary."""
    others = [Case(flow, each=1) for flow in FLOWS if flow != "six"]
    return [Case("six", each=len(PROGRAMS) // 2), *others, Case("six", consul, each=1)]


def all_cases(consul: str = "consul") -> list[Case]:
    """Every flow with every program at every boundary on both stores."""
    return [Case(flow, store) for store in ("sqlite", consul) for flow in FLOWS]


def try_seeds(cases: Iterable[Case], seeds: Iterable[int]) -> Coverage:
    """Steer each of `cases` by chance, once with each of `seeds`."""
    found, began = Coverage(), time.monotonic()
    for case in cases:
        with places_of(case.store) as places:
            reference = reference_for(case, places)
            for seed in seeds:
                run = play_by_chance(case, places, seed)
                found.runs += 1
                flaws = flaws_of(run, reference)
                again = f"python -m tests.battery.control --flow {case.flow} --store {case.scheme} --seed {seed}"
                found.failures += [f"{'; '.join(flaws)}. Again: {again}"] if flaws else []
    found.seconds = time.monotonic() - began
    return found


def flaws_of(run: Run, reference: Reference) -> list[str]:
    """What was wrong about a run, also where it did not come to its end."""
    return run.wrong if run.answer is None else judge(run, reference)


def cover(cases: Iterable[Case], *, most: float = float("inf"), **spoils: Any) -> Coverage:
    """Go through all boundaries of `cases`; not further when `most` runs have failed."""
    found, began = Coverage(), time.monotonic()
    for case in cases:
        with places_of(case.store) as places:
            reference = reference_for(case, places)
            found.add(_cover(case, places, reference, most - len(found.failures), spoils))
    found.seconds = time.monotonic() - began
    return found


def reference_for(case: Case, places: Places) -> Reference:
    """What a run of this case does that no second client steers."""
    run = Run(_name(case), FLOWS[case.flow], places)
    run.play()
    return reference_of(run)


def play(case: Case, places: Places, program: str, at: Collection[int], **spoils: Any) -> Run:
    """One run, with the second client's commands at the boundaries `at`."""
    commands = PROGRAMS[program]
    steering: Steering = lambda point: commands.now if point in at else ()  # noqa: E731
    return _played(Run(_name(case), FLOWS[case.flow], places, steering, later=commands.later, **spoils))


def play_by_chance(case: Case, places: Places, seed: int) -> Run:
    """One run, with the second client's commands at many boundaries that `seed` chooses, as it does the commands."""
    chance = random.Random(seed)

    def steering(point: int) -> Sequence[str]:
        if chance.random() >= _OFTEN:
            return [STOP] if chance.random() < _SELDOM else []
        return chance.choices((PAUSE, RESUME), k=chance.randint(1, 3))

    return _played(Run(_name(case), FLOWS[case.flow], places, steering))


def _played(run: Run) -> Run:
    try:
        run.play()
    except Stuck as stuck:
        run.wrong.append(f"I1: {stuck}")
    return run


@contextmanager
def places_of(store: str) -> Iterator[Places]:
    """Stores that were opened twice; those on this disk go with the block."""
    with tempfile.TemporaryDirectory(prefix="control-") as name, ExitStack() as opened:
        folder = Path(name)
        consul = _consul(folder) if store == "consul" else nullcontext(f"sqlite://{folder}/state.db")
        url = opened.enter_context(consul) if "://" not in store else store
        states, values = [], []
        for _ in range(2):
            states.append(open_state_store(url if store != "memory" else "memory:"))
            values.append(open_data_store(f"sqlite://{folder}/data.db" if store != "memory" else "memory:"))
            for one in (states[-1], values[-1]):
                one.init()
                opened.callback(one.close)
        both = 0 if store == "memory" else 1  # what is in memory is there for one alone
        yield Places(states[0], values[0], states[both], values[both])


@contextmanager
def _consul(folder: Path) -> Iterator[str]:
    server = ConsulServer(folder / "consul")
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def _cover(case: Case, places: Places, reference: Reference, most: float, spoils: Mapping[str, Any]) -> Coverage:
    found, covered = Coverage(total=reference.points), set()
    found.kinds = Counter(_kind_of(name) for name in reference.names for _ in range(2))
    for point, program in case.runs(reference.points):
        run = play(case, places, program, (point,), **spoils)
        found.runs += 1
        if run.steered == [point] and run.points.names[: (point + 1) // 2] == list(reference.names[: (point + 1) // 2]):
            covered.add(point)
        flaws = flaws_of(run, reference)
        if flaws:
            found.failures.append(f"{'; '.join(flaws)}. Again: {case.command(program, point)}")
        if len(found.failures) >= most:
            break
    found.covered = len(covered)
    return found


def _kind_of(name: str) -> str:
    return name.partition(" ")[0]


def _name(case: Case) -> str:
    return f"{case.flow}-{os.getpid()}-{next(_numbers)}"


_numbers = itertools.count(1)


def _main() -> int:
    options = _parser().parse_args()
    logging.disable(logging.CRITICAL)  # what is steered and refused on purpose has no news for the log
    cases = [Case(flow, options.store, tuple(options.program)) for flow in options.flow]
    if options.at or options.seed:
        return _play_alone(cases[0], options.at, options.seed)
    whole = Coverage()
    for case in cases:
        found = cover([case])
        print(f"{case.flow:<10}{case.store:<8}{found}", flush=True)
        whole.add(found)
    print(f"{'':<18}{whole}")
    for failure in whole.failures:
        print(failure, file=sys.stderr)
    return 0 if whole.is_clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.battery.control", description=__doc__)
    parser.add_argument("--flow", nargs="+", choices=FLOWS, default=list(FLOWS))
    parser.add_argument("--store", default="sqlite", help="sqlite, memory, consul (started for this), or a store's URL")
    parser.add_argument("--program", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="what is done there")
    parser.add_argument("--at", nargs="+", type=int, help="play one run, steered at these boundaries")
    parser.add_argument("--seed", type=int, help="play one run, steered by chance")
    return parser


def _play_alone(case: Case, at: Collection[int], seed: int) -> int:
    with places_of(case.store) as places:
        reference = reference_for(case, places)
        run = play(case, places, case.programs[0], at) if at else play_by_chance(case, places, seed)
    for line in run.history.dump():
        print(line)
    print(", ".join(run.points.names), file=sys.stderr)
    flaws = flaws_of(run, reference)
    for flaw in flaws:
        print(flaw, file=sys.stderr)
    return 1 if flaws else 0


if __name__ == "__main__":
    raise SystemExit(_main())
