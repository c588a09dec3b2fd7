"""All of the battery, and one table of what it found.

`python -m tests.battery` takes some minutes; with `--long` everything is explored, all crash points and all boundaries
are gone through on both stores, and there are a hundred times as many seeds. It ends with 1 if anything was lost,
doubled or wrong, or was left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.battery import control, control_race, crash, explore, simulate
from tests.battery.simulate_tally import EXERCISED

_SEEDS, _LONG_SEEDS = 1_000, 100_000
_AT_ONCE = 5_000
_RACES, _LONG_RACES = 20, 1_000
_SHOWN = 10


@dataclass(slots=True)
class Found:
    """What the whole battery counted. `failures` say how each can be seen alone."""

    rows: dict[str, str] = field(default_factory=dict)
    flows: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    is_complete: bool = True
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether everything was tried, and nothing was wrong."""
        return self.is_complete and not self.failures and not self.bad.total()

    def table(self) -> str:
        """All numbers, one a line."""
        p99 = self.rows.pop(_P99)
        rows = {**self.rows, "flows run": f"{self.flows:,}"}
        rows |= {kind: f"{self.bad[kind]:,}" for kind in ("lost", "doubled", "wrong")} | {_P99: p99}
        wide = max(map(len, rows))
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows.items())


_P99 = "p99 repair time after a lost message"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the battery, print the table, and tell the failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.battery", description="Look for what loses or doubles.")
    parser.add_argument("--seeds", type=int, help=f"lives to simulate; {_SEEDS:,}, or {_LONG_SEEDS:,} with --long")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes to share the work")
    parser.add_argument("--long", action="store_true", help="everything, for hours")
    chosen = parser.parse_args(arguments)
    seeds = chosen.seeds if chosen.seeds is not None else _LONG_SEEDS if chosen.long else _SEEDS
    found = Found()
    _explore(found, jobs=chosen.jobs, is_long=chosen.long)
    _simulate(found, chosen.first, seeds, jobs=chosen.jobs)
    _crash(found, jobs=chosen.jobs, is_long=chosen.long)
    _steer(found, is_long=chosen.long)
    print(found.table())
    for failure in found.failures[:_SHOWN]:
        print(failure, file=sys.stderr)
    return 0 if found.is_clean else 1


def _explore(found: Found, *, jobs: int, is_long: bool) -> None:
    states = 0
    for report in explore.explore_all(explore.LONG if is_long else explore.BOUNDED, jobs=jobs):
        _tell(str(report))
        states += report.states
        found.is_complete &= report.is_complete
        found.bad.update({simulate.kind_of(wrong) for wrong in report.violations})
        found.failures += [str(report)] if report.violations else []
    found.rows["states explored"] = f"{states:,}"


def _simulate(found: Found, first: int, seeds: int, *, jobs: int) -> None:
    numbers = simulate.Numbers()
    for begin in range(first, first + seeds, _AT_ONCE):
        began, count = time.monotonic(), min(_AT_ONCE, first + seeds - begin)
        numbers.add_all(simulate.run_seeds(begin, count, jobs=jobs))
        _tell(f"seeds {begin} to {begin + count - 1}: {time.monotonic() - began:.1f} s")
    found.rows["seeds run"] = f"{numbers.seeds:,}"
    found.rows |= {f"  {name}": f"{numbers.exercised[name]:,}" for name in EXERCISED}
    found.rows[_P99] = f"{numbers.p99:.0f} s of virtual time"
    found.flows += numbers.requests
    found.bad.update(lost=numbers.lost, doubled=numbers.doubled, wrong=numbers.wrong)
    found.failures += [simulate.explain(seed) for seed in numbers.failures[:_SHOWN]]


def _crash(found: Found, *, jobs: int, is_long: bool) -> None:
    coverage = crash.Coverage()
    for case in crash.all_cases() if is_long else crash.bounded_cases():
        coverage.add(crash.cover([case], jobs=jobs))
        _tell(f"{case.command(())}: {coverage.covered} of {coverage.total} points so far")
    found.rows["crash points covered"] = f"{coverage.covered:,} of {coverage.total:,}"
    found.flows += coverage.total
    found.bad.update(lost=coverage.lost, doubled=coverage.doubled, wrong=coverage.wrong)
    found.is_complete &= coverage.covered == coverage.total > 0
    found.failures += coverage.failures


def _steer(found: Found, *, is_long: bool) -> None:
    """Pause, resume and stop: at every boundary, by chance at many of a run, and by clients that race."""
    logging.disable(logging.CRITICAL)  # what is refused on purpose has no news for the log
    coverage = control.Coverage()
    for case in control.all_cases() if is_long else control.bounded_cases():
        coverage.add(control.cover([case]))
        _tell(f"{case.flow} on {case.store}: {coverage.covered} of {coverage.total} boundaries so far")
    by_chance = control.try_seeds([control.Case(flow) for flow in control.FLOWS], range(1, 1001 if is_long else 21))
    races = range(1, 1 + (_LONG_RACES if is_long else _RACES))
    lost = [flaw for store in ("sqlite", "consul") for flaw in control_race.try_races(store, races)]
    found.rows["boundaries steered at"] = f"{coverage.covered:,} of {coverage.total:,}, in {coverage.runs:,} runs"
    found.rows["races of two clients"] = f"{2 * len(races):,}"
    found.flows += coverage.runs + by_chance.runs + 2 * len(races)
    failures = [*coverage.failures, *by_chance.failures, *lost]
    found.bad.update(wrong=len(failures))
    found.is_complete &= coverage.covered == coverage.total > 0
    found.failures += failures


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
