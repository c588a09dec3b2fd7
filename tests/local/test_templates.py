"""A language that its template source is known not to have is warned of, and nothing that is shipped uses one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from faasflow.local import FunctionSpec, Stack, load_stack
from faasflow.local.templates import missing_template

ROOT = Path(__file__).parents[2]
STACKS = [ROOT / "stack.yml", *sorted(ROOT.glob("infra/*.yml"))]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
FLASK = "https://github.com/openfaas/python-flask-template"


def spec(lang: str) -> FunctionSpec:
    return FunctionSpec(name="fn", lang=lang, handler=Path())


def stack(path: Path | None = None, **templates: str) -> Stack:
    return Stack(functions={}, path=path, templates={name.replace("_", "-"): url for name, url in templates.items()})


@pytest.mark.parametrize(
    ("lang", "templates"),
    [
        ("python3", {}),
        ("python3@1.0", {}),
        ("python3", {"python3": "https://github.com/openfaas/templates.git#main"}),
        ("python3-debian", {}),
        ("python3-fn", {"python3_fn": FLASK}),
    ],
)
def test_a_language_that_its_source_does_not_have_is_told_with_the_way_out(lang, templates):
    found = missing_template(spec(lang), stack(**templates))

    assert lang.partition("@")[0] in found
    assert "Use python3-http" in found


@pytest.mark.parametrize(
    ("lang", "templates"),
    [
        ("python3", {"python3": "https://example.com/templates-of-our-own"}),
        ("python3-http", {}),
        ("python3-flask-debian", {"python3_flask_debian": FLASK}),
        ("node20", {}),
        ("", {}),
    ],
)
def test_nothing_is_said_of_what_may_be_there(lang, templates):
    assert missing_template(spec(lang), stack(**templates)) == ""


def test_a_template_in_the_folder_is_there(tmp_path):
    (tmp_path / "template" / "python3").mkdir(parents=True)

    assert missing_template(spec("python3"), stack(tmp_path / "stack.yml")) == ""


@pytest.mark.parametrize("file", STACKS, ids=lambda file: file.name)
def test_every_stack_that_is_shipped_uses_templates_that_exist(file):
    if "\nfunctions:" not in file.read_text():
        return
    shipped = load_stack(file)

    assert {name: missing_template(of, shipped) for name, of in shipped.functions.items()} == dict.fromkeys(
        shipped.functions, ""
    )
    assert all(of.is_hosted for of in shipped.functions.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_uses_templates_that_exist(page):
    langs = set(re.findall(r"^ +lang: (\S+)$", page.read_text(), re.MULTILINE))

    assert {lang for lang in langs if missing_template(spec(lang), stack())} == set()
