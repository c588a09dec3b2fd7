from __future__ import annotations

import pytest

from faasflow.local.substitution import SubstitutionError, substitute

GIVEN = {"B": "bee", "EMPTY": "", "URL": "path/to/File.tar.gz", "LINES": "one\ntwo\nthree"}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("no variable, $B and a $ alone", "no variable, $B and a $ alone"),
        ("${B}", "bee"),
        ("${A}", ""),
        ("a${B}c${B}", "abeecbee"),
        ("${A:-x}${EMPTY:-y}${B:-z}", "xybee"),
        ("${A:-}", ""),
        ("${A:=y}", "y"),
        ("${A=y}", "y"),
        ("${EMPTY=y}", "y"),
        ("${A-y}", "y"),
        ("${EMPTY-y}", ""),
        ("${A:-${B}}", "bee"),
        ("${A:-${B:-x}}", "bee"),
        ("${A:-${C:-x}}", "x"),
        ("${A:-pre-${B}-post}", "pre-bee-post"),
        ("${A:-http://host:8080/x?y=1}", "http://host:8080/x?y=1"),
        ("$${B}", "${B}"),
        ("$${A:-${B}}", "${A:-bee}"),
        ("$$", "$$"),
        ("${#B}", "3"),
        ("${B^}${B^^}", "BeeBEE"),
        ("${URL,,}", "path/to/file.tar.gz"),
        ("${URL:8}", "File.tar.gz"),
        ("${URL:8:4}", "File"),
        ("${URL##*/}", "File.tar.gz"),
        ("${URL#*/}", "to/File.tar.gz"),
        ("${URL%.*}", "path/to/File.tar"),
        ("${URL%%.*}", "path/to/File"),
        ("${URL/to/from}", "path/from/File.tar.gz"),
        (r"${URL//\//-}", "path-to-File.tar.gz"),
        ("${URL/path/}", "/to/File.tar.gz"),
        ("${URL/#path/way}", "way/to/File.tar.gz"),
        ("${URL/%gz/xz}", "path/to/File.tar.xz"),
    ],
)
def test_each_form_that_faas_cli_takes_is_replaced(text, becomes):
    assert substitute(text, GIVEN).text == becomes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${A", "'${A' cannot be replaced"),
        ("${A:-x", "'${A:-x' cannot be replaced: its '}' is missing"),
        ("${}", "'${}' cannot be replaced"),
        ("${A!}", "'${A!}' cannot be replaced: it is not understood"),
        ("${A:?must be set}", "'${A:?must be set}' cannot be replaced: ':?' does not mean to faas-cli"),
        ("${A:-${B+x}}", "'${B+x}' cannot be replaced"),
    ],
)
def test_what_is_not_understood_is_refused_by_name_and_line(text, says):
    with pytest.raises(SubstitutionError) as caught:
        substitute(f"first: line\nsecond: {text}", GIVEN)

    assert says in str(caught.value)
    assert caught.value.line == 1


def test_a_line_of_the_result_is_found_again_in_the_source():
    replaced = substitute("a: 1\nb: ${LINES}\nc: ${B}\nd: 2\n", GIVEN)

    assert replaced.text.splitlines() == ["a: 1", "b: one", "two", "three", "c: bee", "d: 2"]
    assert [replaced.source_line(line) for line in range(6)] == [0, 1, 1, 1, 2, 3]


def test_a_value_of_several_lines_is_blamed_for_what_comes_after_it():
    replaced = substitute("a: ${B}\nb: ${LINES}\nc: ${B}\n", GIVEN)
    blamed = [replaced.behind(line) for line in range(5)]

    assert [found and found.name for found in blamed] == ["B", "LINES", "LINES", "LINES", "LINES"]
