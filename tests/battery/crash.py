"""Kills workers before and after every operation of a run, one run for each point, and counts what went wrong.

`python -m tests.battery.crash` goes through all points of all flows on SQLite. With `--at` it plays one run alone, and
tells its history: `python -m tests.battery.crash --flow chain --store sqlite --queue retries --at 17`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faasflow.stores import open_data_store, open_state_store
from tests.battery.crash_flows import FLOWS
from tests.battery.crash_judge import Flaw, Kind, Reference, judge, reference_of
from tests.battery.crash_run import Queue, Run, Stores, Stuck
from tests.battery.crash_worker import Refusal
from tests.servers.consul import ConsulServer

ROOT = Path(__file__).parents[2]


@dataclass
class Coverage:
    """How many points there were, how many a worker was killed at, and in how many runs something was lost, doubled or
    wrong. `repairs` are the virtual seconds from the last death to the end; `failures` tell how to see one alone."""

    total: int = 0
    covered: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    seconds: float = 0.0
    repairs: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Coverage) -> None:
        """Count what `other` counted as well."""
        for name in ("total", "covered", "lost", "doubled", "wrong", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.repairs += other.repairs
        self.failures += other.failures

    @property
    def is_clean(self) -> bool:
        """Whether every point was covered and nothing was wrong."""
        return bool(self.total) and self.covered == self.total and not self.failures


@dataclass(frozen=True)
class Case:
    """One flow with one kind of queue. The state is in `sqlite`, in a `consul` of its own, or in the store that a URL
    names; the data in the same SQLite file, in a folder, or where the URL `data` says. With `pairs` the second worker
    is killed as well, at each of its own points."""

    flow: str
    store: str = "sqlite"
    queue: Queue = Queue.RETRIES
    pairs: bool = False
    data: str = ""

    def command(self, kills: Sequence[int]) -> str:
        """What plays one run of this case alone."""
        store = self.store.partition(":")[0]
        told = f"python -m tests.battery.crash --flow {self.flow} --store {store} --queue {self.queue}"
        return f"{told} --at {' '.join(map(str, kills))}" if kills else told


@dataclass(frozen=True)
class Played:
    """A run that is over, and what the stores still held of it. `trouble` is what ended it before its time."""

    run: Run
    left: Sequence[str] = ()
    trouble: Flaw | None = None

    def flaws(self, reference: Reference) -> list[Flaw]:
        """All that was wrong about it."""
        return [self.trouble] if self.trouble else judge(self.run, reference, self.left)


def bounded_cases(consul: str = "consul") -> list[Case]:
    """Less than a minute's work: what differs most on SQLite, and a join on Consul."""
    again = [Case(flow) for flow in ("foreach", "failing", "redriven")]
    lost = [Case(flow, queue=Queue.LOSES) for flow in ("failing", "once", "repaired", "removed")]
    return [*again, *lost, Case("diamond", consul, Queue.LOSES)]


def all_cases(consul: str = "consul") -> list[Case]:
    """Every flow with every queue on both stores, and all pairs of deaths in a flow of six nodes."""
    places = [(store, queue) for store in ("sqlite", consul) for queue in Queue]
    single = [Case(flow, store, queue) for store, queue in places for flow in FLOWS]
    return single + [Case("six", store, queue, pairs=True) for store, queue in places]


def cover(cases: Sequence[Case], *, jobs: int = 2) -> Coverage:
    """Go through all points of `cases`, shared by `jobs` processes."""
    found, began = Coverage(), time.monotonic()
    text = json.dumps([asdict(case) for case in cases])
    command = [sys.executable, "-m", "tests.battery.crash", "--cases", text, "--share"]
    shares = [
        subprocess.Popen([*command, str(share), str(jobs)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for share in range(jobs)
    ]
    for share in shares:
        said, _ = share.communicate()
        if share.returncode:
            raise RuntimeError(f"A share of the crash runs ended with {share.returncode}.")
        found.add(Coverage(**json.loads(said)))
    found.seconds = time.monotonic() - began
    return found


def cover_share(cases: Iterable[Case], share: int = 0, shares: int = 1) -> Coverage:
    """Go through every `shares`-th point of `cases` in this process, which must have no other threads."""
    found = Coverage()
    for case in cases:
        with stores_of(case) as stores:
            _warm_up(stores)
            try:
                reference, points = reference_for(case, stores)
            except AssertionError as wrong:
                found.add(Coverage(wrong=1, failures=[str(wrong)]))
                continue
            for point in range(1 + share, points + 1, shares):
                _cover_point(case, stores, reference, (point,), found)
    return found


def reference_for(case: Case, stores: Stores) -> tuple[Reference, int]:
    """What a run without a death does, and at how many points a worker can be killed in it."""
    played = play(case, stores, ())
    assert not played.trouble, f"{case.command(())}: {played.trouble}"
    return reference_of(played.run, played.left), 2 * len(played.run.operations[0])


def play(case: Case, stores: Stores, kills: Sequence[int]) -> Played:
    """One run, its first worker killed at point `kills[0]`, its second at `kills[1]`, and so on."""
    name = f"{case.flow}-{os.getpid()}-{next(_numbers)}"
    run = Run(name, FLOWS[case.flow], stores, case.queue, kills)
    try:
        run.play()
        return Played(run, run.left())
    except Stuck as stuck:
        return Played(run, trouble=Flaw(Kind.LOST, str(stuck)))
    except (Refusal, RuntimeError) as error:
        return Played(run, trouble=Flaw(Kind.WRONG, str(error)))
    finally:
        run.end_worker()


@contextmanager
def stores_of(case: Case) -> Iterator[Stores]:
    """Stores that hold nothing of the runs to come; those on this disk go with the block."""
    with tempfile.TemporaryDirectory(prefix="crash-") as name:
        folder = Path(name)
        if case.store == "sqlite":
            # A file that grows from run to run makes each new worker read more of its log.
            file = f"sqlite://{folder}/{{run}}.db"
            yield Stores(file, case.data or file)
            return
        with _consul(folder) if case.store == "consul" else nullcontext(case.store) as url:
            yield Stores(url, case.data or f"file://{folder}/data")


@contextmanager
def _consul(folder: Path) -> Iterator[str]:
    server = ConsulServer(folder / "consul")
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def _warm_up(stores: Stores) -> None:
    """Import here what every worker would else import for itself, and let no worker collect what it inherits."""
    state_url, data_url = stores.of("warm-up")
    for opened in (open_state_store(state_url), open_data_store(data_url)):
        opened.init()
        opened.close()
    gc.freeze()


def _cover_point(case: Case, stores: Stores, reference: Reference, kills: tuple[int, ...], found: Coverage) -> None:
    played = play(case, stores, kills)
    _count(case, kills, played, reference, found)
    if case.pairs and len(kills) == 1:
        for second in range(1, 2 * len(played.run.operations[1]) + 1):
            _cover_point(case, stores, reference, (*kills, second), found)


def _count(case: Case, kills: Sequence[int], played: Played, reference: Reference, found: Coverage) -> None:
    flaws = played.flaws(reference)
    found.total += 1
    found.covered += len(played.run.deaths) == len(kills)
    found.repairs.append(played.run.repair)
    for kind in {flaw.kind for flaw in flaws}:
        setattr(found, kind.value, getattr(found, kind.value) + 1)
    if flaws:
        found.failures.append(f"{'; '.join(map(str, flaws))}. Again: {case.command(kills)}")


def _main() -> int:
    options = _parser().parse_args()
    if options.cases:
        cases = [Case(**{**case, "queue": Queue(case["queue"])}) for case in json.loads(options.cases)]
        print(json.dumps(asdict(cover_share(cases, *options.share))))
        return 0
    cases = [Case(flow, options.store, Queue(queue), options.pairs) for flow in options.flow for queue in options.queue]
    if options.at:
        return _play_alone(cases[0], options.at)
    return _cover_all(cases, options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.battery.crash", description=__doc__)
    parser.add_argument("--flow", nargs="+", choices=FLOWS, default=list(FLOWS))
    parser.add_argument("--store", default="sqlite", help="sqlite, consul (started for this), or a store's URL")
    parser.add_argument("--data", default="", help="URL of the data store, if not the SQLite file or a folder")
    parser.add_argument("--queue", nargs="+", choices=list(Queue), default=list(Queue))
    parser.add_argument("--pairs", action="store_true", help="kill the second worker as well")
    parser.add_argument("--at", nargs="+", type=int, help="play one run; a point for each worker that is to die")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cases", help=argparse.SUPPRESS)
    parser.add_argument("--share", nargs=2, type=int, default=(0, 1), help=argparse.SUPPRESS)
    return parser


def _play_alone(case: Case, kills: Sequence[int]) -> int:
    with stores_of(case) as stores:
        reference, _ = reference_for(case, stores)
        played = play(case, stores, kills)
    for line in played.run.history.dump():
        print(line)
    for number, operations in enumerate(played.run.operations):
        print(f"Worker {number}: {', '.join(operations)}", file=sys.stderr)
    flaws = played.flaws(reference)
    for flaw in flaws:
        print(flaw, file=sys.stderr)
    return 1 if flaws else 0


def _cover_all(cases: Iterable[Case], jobs: int) -> int:
    whole = Coverage()
    for case in cases:
        found = cover([case], jobs=jobs)
        print(f"{case.flow:<12}{case.store:<8}{case.queue:<9}{_row(found)}", flush=True)
        whole.add(found)
    print(f"{'':<29}{_row(whole)}")
    for failure in whole.failures:
        print(failure, file=sys.stderr)
    return 0 if whole.is_clean else 1


def _row(found: Coverage) -> str:
    bad = f"lost {found.lost}, doubled {found.doubled}, wrong {found.wrong}"
    return f"{found.covered} of {found.total} points, {bad}, {found.seconds:.1f} s"


_numbers = itertools.count(1)

if __name__ == "__main__":
    raise SystemExit(_main())
