"""What `faasflow track` makes of a story: the path, the table, what waits for what, and how it fits into 80 columns."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from faasflow.cli.look import Look
from faasflow.cli.tracebacks import own_frames
from faasflow.cli.track_path import arranged, path_lines
from faasflow.cli.track_rows import failing, node_rows
from faasflow.cli.track_view import Close, Excerpt, Log, failure_lines, overview_lines, size_text, way_out_lines
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.payload import Payload
from faasflow.engine.records import AttemptRecord, BranchesRecord, Failure, LeaseRecord, NodeRecord, RequestRecord, dump
from faasflow.engine.story import tell
from faasflow.testing import FlowTester

NOW = 1_800_000_000.0
NARROW = Look(80)
WIDE = Look()


def weather(flow, context) -> None:
    """The graph of the pipeline in `examples/weather-report`."""
    dag = flow.dag()
    dag.node("read").modify(bytes)
    year = dag.foreach_branch("years", lambda days: {}, aggregator=len)
    year.node("table").modify(bytes)
    for part in ("temperature", "precipitation", "wind"):
        year.node(part).apply(f"{part}-statistics")
        year.edge("table", part)
    year.node("year", aggregator=len)
    for part in ("temperature", "precipitation", "wind"):
        year.edge(part, "year")
    cases = dag.conditional_branch("findings", ["heat", "wet"], lambda years: [], aggregator=len)
    for kind in ("heat", "wet"):
        cases[kind].node(kind).modify(bytes)
    dag.node("report", aggregator=len)
    dag.node("page").apply("render-report")
    dag.node("summary").modify(bytes)
    dag.node("publish", aggregator=len)
    for source, target in (("read", "years"), ("years", "findings"), ("years", "report"), ("findings", "report")):
        dag.edge(source, target)
    for part in ("page", "summary"):
        dag.edge("report", part)
        dag.edge(part, "publish")


def chain(*names: str):
    def define(flow, context):
        dag = flow.dag()
        for name in names:
            dag.node(name).modify(bytes)
        for source, target in pairwise(names):
            dag.edge(source, target)

    return define


def node(started: float = 1.0, ended: float = 2.0, **more: Any) -> bytes:
    state = "FAILED" if "failure" in more else "FINISHED"
    return dump(NodeRecord(state, NOW + started, NOW + ended, **more))


def split(count: int, **more: Any) -> bytes:
    return dump(BranchesRecord(NOW + 1, NOW + 1.5, count, **more))


def attempt(error: str, next: float) -> bytes:
    return dump(AttemptRecord(NOW + 1, NOW + 1.25, Failure("a", error, "no"), NOW + next))


def broken(path: str, **more: Any) -> Failure:
    given = {"operation": "precipitation-statistics", "code": 500, "hint": "It said: the gauge was broken"}
    return Failure(path, "CallError", "Function 'precipitation-statistics' answered 500.", **{**given, **more})


def story(
    define=None,
    entries: dict[str, bytes] | None = None,
    *,
    state: str = "RUNNING",
    now: float = 5.0,
    ended: float | None = None,
    is_changed: bool = False,
    **more: Any,
) -> Any:
    """A story as a flow tells it, from records."""
    import msgspec

    record = RequestRecord(RequestState(state), "", NOW, "", ended=NOW + ended if ended is not None else None, **more)
    definition = FlowTester(define or weather).engine.definition() if not is_changed else None
    told = tell(record, entries or {}, definition, NOW + now, is_folded=True)
    error = "The flow was changed after this request had started." if is_changed else ""
    return msgspec.to_builtins({"flow": "weather", "request_id": "w-1", **told, "graph_error": error})


def path_of(told: Any, look: Look = WIDE) -> str:
    return "\n".join(path_lines(told["graph"], look))


def row_of(told: Any, path: str) -> Any:
    return next(row for row in node_rows(told) if row.path == path)


def without_clock(lines: list[str]) -> list[str]:
    """Lines with every time of day a T."""
    return [re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "T", line) for line in lines]


FAILED = {
    "node/read": node(0.0, 0.5),
    "branches/years": split(3),
    **{f"node/years/table@{year}": node() for year in (2012, 2013, 2014)},
    **{f"node/years/wind@{year}": node() for year in (2012, 2013, 2014)},
    **{f"node/years/temperature@{year}": node() for year in (2012, 2014)},
    "node/years/precipitation@2012": node(),
    "node/years/precipitation@2013": node(2.0, 2.5, failure=broken("years/precipitation@2013")),
}


@pytest.fixture
def failed() -> Any:
    return story(entries=FAILED, state="FAILED", ended=2.5, failure=broken("years/precipitation@2013"))


# All of it


def test_a_failed_request_at_80_columns(failed: Any) -> None:
    assert without_clock(overview_lines(failed, NARROW)) == [
        "✗ FAILED  weather, request w-1",
        "started T, took 2.5 s",
        "",
        "read ✓ → years ✗ 1/3, 1 failed [ table ✓ 3/3 → { temperature · 2/3,",
        "  precipitation ✗ 2/3, 1 failed, wind ✓ 3/3 } → year · ] → findings · → report ·",
        "  → { page ·, summary · } → publish ·",
        "",
        "Node                   State      Duration  Function               Details",
        "✓ read                 FINISHED   500 ms",
        "✗ years                FAILED     1.5 s                            1/3, 1 failed",
        "✓ years/table          FINISHED   1.0 s                            3/3",
        "· years/temperature    CANCELLED  1.0 s     temperatur…statistics  2/3",
        "✗ years/precipitation  FAILED     1.5 s     precipitat…statistics  2/3, 1 failed",
        "✓ years/wind           FINISHED   1.0 s     wind-statistics        3/3",
        "· years/year           CANCELLED",
        "· findings             CANCELLED",
        "· report               CANCELLED",
        "· page                 CANCELLED            render-report",
        "· summary              CANCELLED",
        "· publish              CANCELLED",
    ]


def test_a_failed_node_at_80_columns(failed: Any) -> None:
    (record,) = failing(failed)
    rows = "date,precipitation\n" + "".join(f"2013-01-{day:02},0.0\n" for day in range(1, 32))
    lines = [(NOW + 2.1, "reading " + "x" * 100), *((NOW + 2.2, f"line {number}") for number in range(30))]
    logs = [Log("precipitation-statistics", [*lines, (NOW + 2.2, "a\tb\x1b[2J")]), Log("weather")]
    values = {"input": Excerpt(rows.encode()[:1024], 12_345), "output": Excerpt(b"the gauge was broken", 20)}
    shown = failure_lines(Close(record, values, logs), failed, Look(80, is_terminal=True))

    assert without_clock(shown) == [
        "✗ years/precipitation@2013 in 'precipitation-statistics'",
        "  T, 500 ms",
        "  CallError: Function 'precipitation-statistics' answered 500.",
        "  hint: It said: the gauge was broken",
        "  input (12.3 kB):",
        "    date,precipitation",
        *(f"    2013-01-{day:02},0.0" for day in range(1, 10)),
        "    … all of it: faasflow track w-1 --node years/precipitation@2013 --input",
        "  output (20 B):",
        "    the gauge was broken",
        "  precipitation-statistics wrote:",
        "    T  reading " + "x" * 57 + "…",
        *(f"    T  line {number}" for number in range(4)),
        "    … 12 more lines: faasflow logs --request w-1",
        *(f"    T  line {number}" for number in range(16, 30)),
        "    T  a   b␛[2J",
        "  weather wrote nothing at that time, or it is not kept",
    ]
    assert max(map(len, shown)) <= 80


def test_a_failed_request_says_how_it_can_go_on(failed: Any) -> None:
    assert way_out_lines(failed) == ["", "Go on from there: faasflow retry w-1 --flow weather"]
    assert way_out_lines(story(entries={}, state="STOPPED", ended=2.5)) == []


def test_what_is_no_terminal_is_given_all(failed: Any) -> None:
    (record,) = failing(failed)
    log = Log("precipitation-statistics", [(NOW + 2.1, "x" * 500)])
    shown = [*overview_lines(failed, WIDE), *failure_lines(Close(record, {}, [log]), failed, WIDE)]

    assert "✗ years/precipitation  FAILED     1.5 s     precipitation-statistics  2/3, 1 failed" in shown
    assert any(line.endswith("x" * 500) for line in shown)
    assert shown[3].endswith("→ publish ·"), "the path is one line"
    assert not any("\x1b" in line for line in shown)


def test_letters_stand_for_signs_where_these_cannot_be_shown(failed: Any) -> None:
    text = "\n".join(overview_lines(failed, Look(80, is_plain=True)))

    assert text.isascii()
    assert "read ok -> years x 1/3, 1 failed [" in text


def test_colour_is_only_added(failed: Any) -> None:
    painted = overview_lines(failed, Look(80, has_colour=True))

    assert any("\x1b[31m" in line for line in painted)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in painted] == overview_lines(failed, NARROW)


# A foreach under way


def test_a_foreach_of_a_thousand_under_way_fits_on_a_screen() -> None:
    entries = {"node/read": node(0.0, 0.5), "branches/years": split(1000)}
    entries |= {f"node/years/table@{number}": node() for number in range(400)}
    for number in range(20):
        entries[f"node/years/wind@{number}"] = node(failure=broken(f"years/wind@{number}"))
    shown = overview_lines(story(entries=entries), NARROW)

    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    assert "table ▸ 400/1000" in shown[3]
    words = [" ".join(line.split()) for line in shown]
    assert "▸ years RUNNING 4.0 s 20/1000, 20 failed" in words
    assert "· years/year WAITING waits for temperat…" in words


def test_of_a_table_that_is_too_high_what_matters_least_is_counted() -> None:
    names = [f"n{number}" for number in range(60)]
    entries = {f"node/{name}": node() for name in names[:30]}
    shown = overview_lines(story(chain(*names), entries), NARROW, height=20, is_folded=False)

    assert len(shown) <= 20
    assert any(line.startswith("▸ n30 ") or line.startswith("· n30 ") for line in shown)
    assert re.fullmatch(r"… \d+ more: .*30 FINISHED.*", shown[-1])


def test_a_long_path_is_counted_where_nodes_stand_alike() -> None:
    names = [f"n{number}" for number in range(60)]
    told = story(chain(*names), {f"node/{name}": node(ended=4.0) for name in names[:30]})

    assert path_of(told) == "30 nodes ✓ → n30 ▸ → 29 nodes ·"


# What waits, and for what


def joined(flow, context) -> None:
    dag = flow.dag()
    for name in ("start", "a", "b"):
        dag.node(name).modify(bytes)
    dag.node("join", aggregator=len)
    for name in "ab":
        dag.edge("start", name)
        dag.edge(name, "join")


def test_branches_in_branches_stand_where_they_are_opened_and_nowhere_else() -> None:
    def define(flow, context):
        outer = flow.dag().foreach_branch("outer", lambda data: {}, aggregator=len)
        outer.foreach_branch("inner", lambda data: {}, aggregator=len).node("deep").modify(bytes)
        outer.conditional_branch("case", ["a"], lambda data: [], aggregator=len)["a"].node("chosen").modify(bytes)
        outer.edge("inner", "case")

    entries = {
        "branches/outer": split(2),
        "branches/outer/inner@1": split(1),
        "branches/outer/inner@2": split(1),
        "node/outer/inner/deep@1/1": node(),
        "node/outer/inner@1": node(),
        "branches/outer/case@1": split(1, branches=(("a", Payload()),), input=Payload()),
    }

    path = path_of(story(define, entries, now=2.0))

    assert path == "outer ▸ 0/2 [ inner ▸ 1/2 [ deep ▸ 1/2 ] → case ▸ [ chosen ▸ ] ]"


def test_a_chain_of_any_length_is_shown_however_it_was_declared() -> None:
    names = [f"n{number}" for number in range(1500)]
    before = dict(zip(names, [(), *([name] for name in names)], strict=False))

    assert list(arranged(names[::-1], before).items) == names


def test_what_waits_says_for_what_and_until_when() -> None:
    entries = {
        "node/start": node(0.0, 1.0),
        "attempt/node/a/1": attempt("OSError", next=65.0),
        "lease/node/b": dump(LeaseRecord("someone", NOW + 20.0)),
    }
    told = story(joined, entries)
    retried, leased, waiting = (row_of(told, path) for path in ("a", "b", "join"))

    assert (retried.state, retried.attempt) == ("RETRYING", 2)
    assert re.fullmatch(r"next attempt .*\d\d:\d\d:\d\d, in 1 m 00 s", retried.details)
    assert (leased.state, leased.seconds) == ("RUNNING", 4.0)
    assert re.fullmatch(r"leased until .*\d\d:\d\d:\d\d", leased.details)
    assert (waiting.state, waiting.details) == ("WAITING", "waits for a, b")


def test_a_node_that_waits_for_a_connection_says_since_when_and_how_often_it_was_tried() -> None:
    unsent = AttemptRecord(NOW + 1, NOW + 1.25, Failure("a", "UnreachableError", "no"), NOW + 65, unsent=True)
    told = story(
        joined, {"node/start": node(0.0, 1.0), "attempt/node/a/1": dump(unsent), "attempt/node/a/2": dump(unsent)}
    )
    waiting = row_of(told, "a")

    assert (waiting.state, waiting.attempt) == ("RETRYING", 1)
    assert re.fullmatch(r"no connection since .*, tried 2 times, next .*, in 1 m 00 s: no", waiting.details)


def test_a_message_that_does_not_come_and_a_pause_are_told_apart() -> None:
    queued = story(joined, {"node/start": node(0.0, 1.0)}, now=301.0)
    paused = story(joined, {"node/start": node(0.0, 1.0), "parked/node/a": b""}, state="PAUSED", now=301.0)

    assert row_of(queued, "a").details == "in the queue for 5 m 00 s"
    assert (row_of(paused, "a").state, row_of(paused, "a").details) == ("WAITING", "paused")


def test_a_retry_that_is_due_or_a_process_that_is_gone_is_said_so() -> None:
    due = story(joined, {"node/start": node(), "attempt/node/a/1": attempt("OSError", next=3.0)})
    gone = story(joined, {"node/start": node(), "lease/node/a": dump(LeaseRecord("someone", NOW + 2.0))})

    assert row_of(due, "a").details == "next attempt due now"
    assert row_of(gone, "a").details == "its process is gone; the clock repeats it"


def test_the_attempts_of_a_node_are_listed() -> None:
    entries = {
        "node/start": node(),
        "attempt/node/a/1": attempt("OSError", 3),
        "attempt/node/a/2": attempt("EOFError", 9),
    }
    told = story(joined, entries)
    (record,) = failing(told)
    shown = without_clock(failure_lines(Close(record), told, NARROW))

    assert shown[0] == "↻ a"
    assert "  EOFError: no" in shown
    assert shown[-3:] == ["  attempts:", "    1  T, 250 ms  OSError: no", "    2  T, 250 ms  EOFError: no"]


# What happened at the end


def test_the_header_tells_of_retries_the_deadline_and_the_callback() -> None:
    told = story(joined, run=2, deadline=NOW + 60, callback="https://hooks.example.com/secret")
    lines = without_clock(overview_lines(told, WIDE))

    assert lines[1] == "started T, for 5.0 s, retried 2 times, has until T, callback to hooks.example.com at the end"


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ({}, "is under way"),
        ({"node/$callback.1": node()}, "delivered"),
        ({"node/$callback.1": node(attempt=40, failure=broken("$callback.1"))}, "given up after 40 attempts"),
        ({"attempt/node/$callback.1/1": attempt("CallError", 3)}, "failed 1 times, next attempt due now"),
    ],
)
def test_the_callback_of_a_request_that_ended_is_followed(records: dict[str, bytes], text: str) -> None:
    ended = {"state": "STOPPED", "ended": 3.0, "closing": ("$callback.1",), "callback": "http://a.example/"}
    told = story(joined, {"node/start": node(), **records}, **ended)

    assert f"callback to a.example {text}" in "\n".join(overview_lines(told, WIDE))
    assert node_rows(told)[-1].name == "callback of retry 1"


def test_a_request_that_failed_without_a_node_is_told_as_such() -> None:
    from faasflow.cli.track_view import request_failure_lines

    failure = Failure("", "RequestTimeoutError", "The request did not end within 5 s.", hint="See flow.timeout().")
    told = story(joined, {"node/start": node()}, state="FAILED", ended=5.0, failure=failure)

    assert request_failure_lines(told, NARROW) == [
        "✗ the request",
        "  RequestTimeoutError: The request did not end within 5 s.",
        "  hint: See flow.timeout().",
    ]


def test_without_a_graph_the_records_are_shown() -> None:
    told = story(entries=FAILED, state="FAILED", ended=2.5, failure=broken("years/precipitation@2013"), is_changed=True)
    shown = overview_lines(told, NARROW)

    assert shown[3] == "The graph is not known: The flow was changed after this request had started."
    assert [row.path for row in node_rows(told)][:2] == ["read", "years"]
    assert row_of(told, "years/precipitation").details == "2/3, 1 failed"


def test_a_condition_says_what_it_chose_and_hides_the_rest() -> None:
    from faasflow.engine.payload import EMPTY, inline

    chosen = split(1, branches=(("heat", EMPTY),), input=inline(b"x"))
    entries = {"node/read": node(), "branches/years": split(0), "node/years": node(), "branches/findings": chosen}
    told = story(entries=entries, now=3.0)
    table = "\n".join(overview_lines(told, WIDE)[4:])

    assert "chose heat" in table
    assert "findings=heat/heat" in table
    assert "findings=wet/wet" not in table
    assert "findings ▸ [ heat ▸ ] → report" in path_of(told)


def test_what_only_joins_the_ends_of_a_dag_is_not_shown() -> None:
    def define(flow, context):
        dag = flow.dag()
        for name in ("a", "b", "c"):
            dag.node(name).modify(bytes)
        dag.edge("a", "b")
        dag.edge("a", "c")

    told = story(define, {"node/a": node()}, now=3.0)

    assert path_of(told) == "a ✓ → { b ▸, c ▸ }"
    assert [row.path for row in node_rows(told)] == ["a", "b", "c"]


def test_the_end_of_a_branch_that_failed_before_is_not_told_twice() -> None:
    failure = broken("years/wind@a")
    entries = {
        "branches/years": split(2),
        "node/years/wind@a": node(failure=failure),
        "node/years/year@a": node(failure=failure),
    }

    assert [record["path"] for record in failing(story(entries=entries))] == ["years/wind@a"]


# Small things


@pytest.mark.parametrize(
    ("before", "tree"),
    [
        ({"a": ""}, "a"),
        ({"a": "", "b": "a", "c": "b"}, "(a b c)"),
        ({"a": "", "b": "a", "c": "a", "d": "bc"}, "(a {b c} d)"),
        ({"a": "", "b": "a", "c": "a", "d": "b", "e": "c"}, "(a {(b d) (c e)})"),
        ({"b": "a", "a": ""}, "(a b)"),
        ({"a": "", "b": "", "c": "a", "d": "ab", "e": "bc"}, "({a b} {c d} e)"),
    ],
)
def test_nodes_are_arranged_as_they_follow_each_other(before: dict[str, str], tree: str) -> None:
    def text(found: Any) -> str:
        if isinstance(found, str):
            return found
        inner = " ".join(map(text, found.items))
        return f"({inner})" if type(found).__name__ == "_Series" else f"{{{inner}}}"

    assert text(arranged(list(before), before)) == tree


def test_a_size_reads_well() -> None:
    assert [size_text(size) for size in (0, 999, 12_345, 999_999, 5_000_000)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "1.0 MB",
        "5.0 MB",
    ]


@pytest.mark.parametrize(
    ("data", "size", "text"),
    [(b"abc", 3, "abc"), (b"ab\xc3", 10, "ab"), (b"ab\xc3", 3, None), (b"\xff\xfe\x00ab", 9, None)],
)
def test_an_excerpt_that_is_no_text_is_told_from_one_that_was_cut(data: bytes, size: int, text: str | None) -> None:
    assert Excerpt(data, size).text == text


def test_of_a_traceback_only_the_code_of_the_handler_is_shown() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/home/app/faasflow/engine/operations.py", line 1, in run',
        "    data = code(data)",
        '  File "/home/app/function/handler.py", line 7, in ship',
        "    raise OSError()",
        "OSError",
    ]

    assert own_frames("\n".join(lines)) == [
        'File "/home/app/function/handler.py", line 7, in ship',
        "  raise OSError()",
    ]
