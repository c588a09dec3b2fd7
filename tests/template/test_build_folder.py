"""The build folder is what faas-cli makes."""

from __future__ import annotations

from pathlib import Path

from tests.template.build_folder import TEMPLATE, make_build_folder, new_function


def test_a_build_folder_holds_the_package_and_no_links(tmp_path: Path) -> None:
    folder = make_build_folder(TEMPLATE / "function", tmp_path / "build")

    assert [path for path in folder.rglob("*") if path.is_symlink()] == []
    assert (folder / "faasflow" / "__init__.py").is_file()
    assert (folder / "requirements.txt").is_file()


def test_the_handler_lies_over_the_sample(tmp_path: Path) -> None:
    handler = tmp_path / "flow"
    (handler / "records").mkdir(parents=True)
    (handler / "handler.py").write_text("def define(flow, context): ...\n")
    (handler / "records" / "a.csv").write_text("1,2")

    function = make_build_folder(handler, tmp_path / "build") / "function"

    assert (function / "handler.py").read_text() == "def define(flow, context): ...\n"
    assert (function / "records" / "a.csv").read_text() == "1,2"


def test_what_the_handler_does_not_have_comes_from_the_template(tmp_path: Path) -> None:
    handler = tmp_path / "flow"
    handler.mkdir()

    function = make_build_folder(handler, tmp_path / "build") / "function"

    assert (function / "handler_test.py").read_bytes() == (TEMPLATE / "function" / "handler_test.py").read_bytes()


def test_entries_named_build_or_template_are_left_out(tmp_path: Path) -> None:
    handler = tmp_path / "flow"
    for name in ("build", "template", "other"):
        (handler / name).mkdir(parents=True)

    function = make_build_folder(handler, tmp_path / "build") / "function"

    assert {path.name for path in function.iterdir()} & {"build", "template", "other"} == {"other"}


def test_a_new_flow_is_its_owners_alone_and_so_is_its_build_folder(tmp_path: Path) -> None:
    handler = new_function(tmp_path / "flow")
    function = make_build_folder(handler, tmp_path / "build") / "function"

    assert {path.name for path in handler.iterdir()} >= {"handler.py", "handler_test.py", "requirements.txt"}
    assert handler.stat().st_mode & 0o777 == function.stat().st_mode & 0o777 == 0o700
