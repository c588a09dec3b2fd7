"""The harness of the pages: what is right passes, and every kind of wrong fails at its line."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.docs.checks import _simple_commands
from tests.docs.pages import PageError, read_page
from tests.docs.runner import PageRun


def run(folder: Path, text: str) -> Path:
    """Run a page and give the folder it ran in."""
    page = read_page(textwrap.dedent(text).lstrip())
    run = PageRun("page.md", folder)
    try:
        run.run(page)
    finally:
        run.close()
    return run.folder


def fails(folder: Path, line: int, reason: str, text: str) -> None:
    with pytest.raises(PageError, match=f"^line {line}: .*{re.escape(reason)}") as caught:
        run(folder, text)

    assert caught.value.line == line


def fenced(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


def test_python_blocks_share_their_names(tmp_path: Path) -> None:
    run(tmp_path, fenced("python", "a = 1") + "\nthen\n\n" + fenced("python", "assert a == 1"))


def test_an_error_in_python_is_told_with_its_line(tmp_path: Path) -> None:
    fails(tmp_path, 4, "ZeroDivisionError", "Text.\n\n" + fenced("python", "1 / 0"))


def test_a_failed_assert_is_told_with_its_line(tmp_path: Path) -> None:
    fails(tmp_path, 3, "AssertionError", fenced("python", "a = 1", "assert a == 2"))


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    fails(tmp_path, 3, "SyntaxError", fenced("python", "a = 1", "def"))


def test_a_define_must_build_a_flow(tmp_path: Path) -> None:
    run(tmp_path, fenced("python", "def define(flow, context):", "    flow.sync_node().apply('greet')"))


def test_a_define_that_builds_no_flow_fails(tmp_path: Path) -> None:
    fails(tmp_path, 2, "DefinitionError", fenced("python", "def define(flow, context):", "    flow.sync_node()"))


def test_a_shown_test_is_called(tmp_path: Path) -> None:
    fails(tmp_path, 3, "AssertionError", fenced("python", "def test_it():", "    assert 1 == 2"))


def test_a_session_must_answer_as_shown(tmp_path: Path) -> None:
    run(
        tmp_path, fenced("python", "a = 20") + "\n" + fenced("pycon", ">>> a + 1", "21", ">>> object()", "<object ...>")
    )


def test_a_session_with_another_answer_fails(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"Expected:\s+3\s+Got:\s+2"):
        run(tmp_path, fenced("pycon", ">>> 1 + 1", "3"))


def test_a_session_without_a_question_fails(tmp_path: Path) -> None:
    fails(tmp_path, 2, "no '>>> '", fenced("pycon", "a = 1"))


def test_a_command_must_write_exactly_what_is_shown(tmp_path: Path) -> None:
    run(tmp_path, fenced("console", "$ printf 'a\\nb\\n'", "a", "b", "$ true", "$ echo c >&2", "c"))


@pytest.mark.parametrize("shown", ["three", "one", "one\ntwo\nthree", ""])
def test_a_command_that_writes_something_else_fails(tmp_path: Path, shown: str) -> None:
    fails(tmp_path, 3, "$ printf 'one\\ntwo\\n'", fenced("console", "$ true", "$ printf 'one\\ntwo\\n'", shown))


def test_dots_stand_for_any_text_or_any_lines(tmp_path: Path) -> None:
    run(tmp_path, fenced("console", "$ seq 1 9", "1", "...", "9", "$ echo took 12 ms", "took ... ms"))


def test_times_in_a_console_stand_for_any_time(tmp_path: Path) -> None:
    real = "$ echo 'a    2026-11-21 07:08:09.123  3 m 12 s  b'"
    run(tmp_path, fenced("console", real, "a  2025-01-31 23:59:59  12.5 s       b"))


@pytest.mark.parametrize("shown", ["12.5 kB", "12", "s", "7:08:09", "2026-01-31"])
def test_a_length_of_time_in_a_console_stands_for_nothing_else(tmp_path: Path, shown: str) -> None:
    fails(tmp_path, 2, "$ echo", fenced("console", f"$ echo took {shown}", "took 12.5 s"))


def test_dots_do_not_stand_for_a_wrong_end(tmp_path: Path) -> None:
    fails(tmp_path, 2, "$ seq 1 9", fenced("console", "$ seq 1 9", "1", "...", "8"))


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    fails(tmp_path, 2, "$ false", fenced("console", "$ false"))


def test_a_command_may_fail_with_the_status_that_is_shown(tmp_path: Path) -> None:
    run(tmp_path, fenced("console", "$ exit_with() { return $1; }", "$ exit_with 3  # exits 3"))


def test_a_command_that_was_to_fail_and_does_not_fails_the_page(tmp_path: Path) -> None:
    fails(tmp_path, 2, "$ true", fenced("console", "$ true  # exits 1"))


def test_a_command_that_ends_the_shell_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="The shell itself has ended"):
        run(tmp_path, fenced("console", "$ exit 0"))


def test_a_command_that_is_not_finished_fails(tmp_path: Path) -> None:
    fails(tmp_path, 2, "This is no shell command", fenced("console", "$ echo 'a"))


def test_a_command_may_go_on_in_the_next_line(tmp_path: Path) -> None:
    run(tmp_path, fenced("console", "$ echo a \\", "    b", "a b", "$ cat <<END", "> c", "> END", "c"))


def test_a_console_block_keeps_folder_and_variables(tmp_path: Path) -> None:
    folder = run(tmp_path, fenced("console", "$ mkdir sub && cd sub && A=1") + fenced("console", "$ touch file-$A"))

    assert (folder / "sub" / "file-1").exists()


def test_output_without_a_command_fails(tmp_path: Path) -> None:
    fails(tmp_path, 2, "starts with '$ '", fenced("console", "out", "$ true"))


def test_a_command_in_the_background_runs_until_the_page_ends(tmp_path: Path) -> None:
    server = "$ python -uc 'print(\"ready at\", 8080); import time; time.sleep(600)' &"
    run(tmp_path, fenced("console", server, "ready at 8080", "$ jobs -p >pid; kill -0 $(cat pid)"))

    pid = (tmp_path / "page" / "pid").read_text().strip()
    assert not Path("/proc", pid).exists()


def test_a_command_in_the_background_that_ends_without_its_output_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.runner.START", 0.2)

    fails(tmp_path, 2, "$ echo hello &", fenced("console", "$ echo hello &", "ready"))


def test_files_are_written_and_can_be_used(tmp_path: Path) -> None:
    run(
        tmp_path,
        "<!-- file: lib/answer.py -->\n"
        + fenced("python", "VALUE = 42")
        + "\n"
        + fenced("python", "from lib.answer import VALUE", "assert VALUE == 42")
        + fenced("console", "$ cat lib/answer.py", "VALUE = 42"),
    )


def test_a_file_of_a_known_language_is_checked(tmp_path: Path) -> None:
    fails(tmp_path, 3, "This is no yaml", "<!-- file: stack.yml -->\n" + fenced("yaml", "a: [1"))


def test_a_handler_file_must_be_a_flow_that_can_run(tmp_path: Path) -> None:
    handler = fenced("python", "from faasflow import Dag", "def define(flow, context):", "    flow.sync_node()")

    fails(tmp_path, 3, "greet/handler.py is no flow that can run", "<!-- file: greet/handler.py -->\n" + handler)


def test_a_handler_file_that_is_a_flow_passes(tmp_path: Path) -> None:
    handler = fenced("python", "def define(flow, context):", "    flow.sync_node().apply('greet')")

    run(tmp_path, "<!-- file: greet/handler.py -->\n" + handler)


def test_hidden_blocks_run(tmp_path: Path) -> None:
    run(tmp_path, "<!-- hidden: python\na = 1\n-->\n\n" + fenced("python", "assert a == 1"))


def test_an_excerpt_that_stands_in_its_file_passes(tmp_path: Path) -> None:
    run(tmp_path, "<!-- excerpt: Makefile -->\n" + fenced("make", "help: ## Print what can be done"))


def test_an_excerpt_that_does_not_stand_in_its_file_fails(tmp_path: Path) -> None:
    fails(tmp_path, 3, "Makefile does not hold", "<!-- excerpt: Makefile -->\n" + fenced("make", "hlep:"))


def test_a_page_may_start_in_a_copy_of_the_repository(tmp_path: Path) -> None:
    folder = run(tmp_path, "<!-- folder: repository -->\n\n" + fenced("console", "$ rm Makefile"))

    assert (folder / "pyproject.toml").exists()


@pytest.mark.parametrize(
    ("line", "reason", "text"),
    [
        (2, "names no language", "```\na\n```\n"),
        (2, "No test knows language 'ruby'", "```ruby\na\n```\n"),
        (3, "only indented", "Text\n\n    $ make\n"),
        (1, "Directive 'flie' is unknown", "<!-- flie: a.py -->\n```python\n```\n"),
        (1, "Folder 'home' is unknown", "<!-- folder: home -->\n"),
        (3, "No block follows the directive 'file'", "<!-- file: a.py -->\n\nText\n"),
        (2, "This is no json", '```json\n{"a": 1,}\n```\n'),
        (2, "This is no toml", "```toml\na = \n```\n"),
        (3, "This is a command", "```text\nfine\n$ make\n```\n"),
        (2, "This is a command", "```text\nfaasflow run x\n```\n"),
        (2, "Diagram 'pie' is unknown", "```mermaid\npie title a\n```\n"),
        (2, "not as many '['", "```mermaid\nflowchart LR\n  a[b --> c\n```\n"),
        (2, "'faasflow' can run in a test", "```sh\nkubectl get pods | faasflow run x\n```\n"),
        (2, "This is no shell command", "```sh\nkubectl get 'pods\n```\n"),
        (2, "no target ['teste']", "```sh\nmake teste\n```\n"),
        (2, "no extra ['exmaples']", '```sh\npip install "faasflow[exmaples]"\n```\n'),
    ],
)
def test_what_no_test_could_vouch_for_fails(tmp_path: Path, line: int, reason: str, text: str) -> None:
    fails(tmp_path, line, reason, text)


def test_data_diagrams_and_cluster_commands_pass(tmp_path: Path) -> None:
    run(
        tmp_path,
        fenced("yaml", "a: 1", "---", "b: 2")
        + fenced("json", "[1]")
        + fenced("toml", "a = 1")
        + fenced("text", "a -> b")
        + fenced("mermaid", "flowchart LR", "  a[one] --> b{two}")
        + fenced("sh", "# comment", "git clone X && cd X", "make test JOBS=1", "faas-cli up -f stack.yml"),
    )


def test_cluster_commands_are_found_behind_variables_pipes_and_quotes() -> None:
    text = "A=1 kubectl get \\\n -o 'a;\nb' | helm up\nP=$(kubectl get y | base64 -d)\nfaas-cli ls; docker ps  # a; b"

    assert [words[0] for words in _simple_commands(text)] == [
        "kubectl",
        "helm",
        "kubectl",
        "base64",
        "faas-cli",
        "docker",
    ]
