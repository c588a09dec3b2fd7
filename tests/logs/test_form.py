"""How a line of the log looks."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faasflow.logs.form import LONGEST, Entry, as_json, as_text, shortened
from faasflow.scope import Scope

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=50)


def entry(message: str = "Hello.", *, scope: Scope | None = None, traceback: str = "", logger: str = "mine") -> Entry:
    return Entry(time=1767225600.25, level="INFO", logger=logger, message=message, traceback=traceback, scope=scope)


NODE = Scope("orders", "r1", "years/resize", 2)


def test_a_line_begins_with_its_level_and_what_it_belongs_to() -> None:
    assert as_text(entry(scope=NODE)) == ("INFO flow=orders request=r1 node=years/resize attempt=2 mine: Hello.\n")


def test_a_line_of_a_request_as_a_whole_names_no_node() -> None:
    scope = Scope("orders", "r1")

    assert as_text(entry(scope=scope)) == "INFO flow=orders request=r1 mine: Hello.\n"
    assert {"node", "attempt"}.isdisjoint(json.loads(as_json(entry(scope=scope))))


def test_a_line_of_nothing_in_particular_has_no_fields() -> None:
    assert as_text(entry()) == "INFO mine: Hello.\n"


def test_json_has_every_field_and_the_time_in_utc() -> None:
    assert json.loads(as_json(entry(scope=NODE, traceback="Traceback:\n  line"))) == {
        "time": "2026-01-01T00:00:00.250000Z",
        "level": "info",
        "logger": "mine",
        "message": "Hello.",
        "flow": "orders",
        "request": "r1",
        "node": "years/resize",
        "attempt": 2,
        "traceback": "Traceback:\n  line",
    }


def test_every_line_of_a_message_and_its_traceback_is_marked() -> None:
    lines = as_text(entry("one\r\ntwo\n", scope=Scope("f", "r1"), traceback="Traceback:\n  here\n")).splitlines()

    assert lines == [f"INFO flow=f request=r1 mine: {text}" for text in ("one", "two", "Traceback:", "  here")]


@pytest.mark.parametrize(
    ("id", "shown"),
    [
        ("r-1:2/3%20", "r-1:2/3%20"),
        ("ärger", "ärger"),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a"b', '"a\\"b"'),
        ("a\nERROR", '"a\\nERROR"'),
        ("a\x1b[31m", '"a\\u001b[31m"'),
        ("a\u2028b", '"a\\u2028b"'),
        ("a\ud800", '"a\\ud800"'),
        ("", '""'),
    ],
)
def test_a_field_that_could_be_mistaken_is_quoted(id: str, shown: str) -> None:
    assert as_text(entry(scope=Scope("f", id))) == f"INFO flow=f request={shown} mine: Hello.\n"


@given(text=ANY_TEXT, id=ANY_TEXT, node=ANY_TEXT)
def test_nothing_in_an_entry_makes_a_line_without_its_mark(text: str, id: str, node: str) -> None:
    start = "INFO flow=f request="
    written = as_text(entry(text, scope=Scope("f", id, node, 1), traceback=text))

    assert written.isprintable() or set(written) - {"\n", "\t"} == {*written} - {"\n", "\t"}
    assert all(line.startswith(start) for line in written.splitlines())
    assert written.splitlines() == written.removesuffix("\n").split("\n")
    written.encode()


@given(text=ANY_TEXT, id=ANY_TEXT)
def test_json_is_one_line_that_gives_back_what_went_in(text: str, id: str) -> None:
    written = as_json(entry(text, scope=Scope("f", id), traceback=text))
    read = json.loads(written)

    assert written.splitlines() == [written.removesuffix("\n")]
    assert (read["message"], read["request"]) == (text, id)
    written.encode()


def test_what_is_too_long_keeps_its_beginning_and_its_end() -> None:
    text = "a" * LONGEST + "bc"
    cut = shortened(text)

    assert cut.startswith("aaa")
    assert cut.endswith("abc")
    assert "(2 characters left out)" in cut
    assert shortened("a" * LONGEST) == "a" * LONGEST


@pytest.mark.parametrize("form", [as_text, as_json])
def test_the_longest_line_stays_below_what_of_watchdog_reads(form: object) -> None:
    record = entry("\u00e4" * LONGEST, traceback="\u00e4" * LONGEST, scope=Scope("f" * 63, "\x01" * 1024, "n" * 200, 1))
    longest = max(form(record).encode().split(b"\n"), key=len)  # type: ignore[operator]

    assert len(longest) < 64 * 1024


def test_levels_are_those_of_the_settings() -> None:
    from faasflow.config import LogLevel

    assert {level.name for level in LogLevel} < set(logging.getLevelNamesMapping())
