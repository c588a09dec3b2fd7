"""How times, tables and signs read."""

from __future__ import annotations

import io
import sys

import pytest

from faasflow.cli.console import duration, mark, show, show_table
from faasflow.cli.options import header, pair


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.001, "0 ms"),
        (0.0004, "0 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"),
        (125, "2 m 05 s"),
        (3599.9, "1 h 00 m"),
        (3725, "1 h 02 m"),
    ],
)
def test_a_duration_is_as_short_as_it_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_table_has_columns_as_wide_as_their_longest_entry(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("Name", "Kind"), [("a-long-name", "flow"), ("b", "")])

    assert capsys.readouterr().out == "Name         Kind\na-long-name  flow\nb\n"


@pytest.mark.parametrize(("encoding", "sign"), [("utf-8", "✓"), ("ascii", "ok"), ("latin-1", "ok")])
def test_a_sign_that_cannot_be_shown_becomes_letters(encoding: str, sign: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    assert mark("good", stream=stream) == sign


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "ü €\\ud800"), ("latin-1", "ü \\u20ac\\ud800")])
def test_what_a_stream_cannot_encode_is_escaped(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    show("ü €\ud800")

    assert stream.buffer.getvalue().decode(encoding) == f"{shown}\n"


@pytest.mark.parametrize("text", ["X-A: b", "X-A:b", "X-A=b", "X-A : b"])
def test_a_header_is_taken_in_both_spellings_of_faas_cli(text: str) -> None:
    assert header(text) == ("X-A", "b")


def test_values_may_hold_separators() -> None:
    assert header("X-Url: http://a/?b=c") == ("X-Url", "http://a/?b=c")
    assert pair("a=b=c") == ("a", "b=c")
    assert pair("a=") == ("a", "")
