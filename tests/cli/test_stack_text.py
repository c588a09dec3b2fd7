"""A new entry in a stack file leaves every byte that was there in its place."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from faasflow.cli.stack_text import NEW_STACK, StackTextError, add_function

ENTRY = "lang: faas-flow\nhandler: ./fresh\n"
SETTINGS = {"lang": "faas-flow", "handler": "./fresh"}
SHOWN = "  fresh:\n    lang: faas-flow\n    handler: ./fresh\n"
HEAD = "# ours\nversion: 1.0\nfunctions:\n  first:  # keep\n    lang: python3-http\n    handler: ./first\n"


def add(text: str) -> str:
    return add_function(text, "fresh", ENTRY)


def test_an_entry_goes_behind_the_others() -> None:
    assert add(HEAD) == f"{HEAD}\n{SHOWN}"


def test_a_new_file_gets_a_version_and_a_provider() -> None:
    text = add(NEW_STACK)

    assert text.endswith(f"functions:\n{SHOWN}")
    assert yaml.safe_load(text)["provider"] == {"name": "openfaas", "gateway": "http://127.0.0.1:8080"}


def test_what_follows_the_functions_stays_behind_them() -> None:
    tail = "\n# how to build\nconfiguration:\n  templates: []\n"

    assert add(HEAD + tail) == f"{HEAD}\n{SHOWN}{tail}"


def test_an_indented_comment_at_the_end_stays_with_the_function_before() -> None:
    text = HEAD + "    # image: soon\n\n# margin\nconfiguration: {}\n"

    assert add(text).startswith(f"{HEAD}    # image: soon\n\n{SHOWN}\n# margin\n")


def test_functions_without_an_entry_take_the_first() -> None:
    assert add("functions:\n# none yet\n") == f"functions:\n{SHOWN}# none yet\n"


def test_a_file_without_a_last_line_end_is_ended_first() -> None:
    assert add(HEAD.removesuffix("\n")) == f"{HEAD}\n{SHOWN}"


def test_the_indentation_of_the_file_is_followed() -> None:
    text = "functions:\n    first:\n        lang: python3\n"

    assert "\n    fresh:\n      lang: faas-flow\n" in add(text)


def test_windows_line_ends_are_kept() -> None:
    text = HEAD.replace("\n", "\r\n")

    assert add(text) == (f"{HEAD}\n{SHOWN}").replace("\n", "\r\n")


@pytest.mark.parametrize("functions", ["{}", "{first: {lang: python3}}", "&all {first: {lang: python3}}"])
def test_functions_on_one_line_are_refused_with_the_entry_to_add(functions: str) -> None:
    with pytest.raises(StackTextError, match="'fresh'") as refused:
        add(f"functions: {functions}\n")

    assert SHOWN.strip() in refused.value.hint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("functions:\n  fresh:\n    lang: python3\n", "exists already"),
        ("functions: [a]\n", "not a map"),
        ("- a\n", "not a map"),
        ("functions: {\n", "not valid YAML"),
    ],
)
def test_what_cannot_be_added_to_is_refused(text: str, reason: str) -> None:
    with pytest.raises(StackTextError, match=reason):
        add(text)


comments = st.sampled_from(["", "\n", "# margin\n", "\n# two\n\n# three\n", "    # deep\n", "  # in between\n"])
values = st.sampled_from(
    [
        "    lang: python3\n",
        "    lang: >-\n      folded\n      text\n",
        "    secrets: [a,\n      b]\n",
        "    labels:\n    - a\n",
    ]
)
functions = st.lists(st.tuples(comments, values, comments), max_size=3).map(
    lambda parts: "".join(f"{before}  f{at}:\n{value}{after}" for at, (before, value, after) in enumerate(parts))
)
before = st.sampled_from(["", "version: 1.0\n", "provider:\n  name: openfaas\n"])
after = st.sampled_from(["", "other: 1.0\n", "configuration:\n  copy:\n  - a\n"])


@given(before, comments, functions, comments, after, st.booleans())
def test_any_file_keeps_its_bytes_and_gains_one_function(
    before: str, margin: str, functions: str, rest: str, after: str, ended: bool
) -> None:
    text = f"{before}{margin}functions:\n{functions}{rest}{after}"
    text = text if ended else text.rstrip("\n")

    changed = add(text)

    old, new = yaml.safe_load(text), yaml.safe_load(changed)
    assert new.pop("functions") == {**(old.pop("functions") or {}), "fresh": SETTINGS}
    assert new == old
    kept = [line for line in changed.splitlines() if line.strip() and line + "\n" not in SHOWN]
    assert kept == [line for line in text.splitlines() if line.strip()]
