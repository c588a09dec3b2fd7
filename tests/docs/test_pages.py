"""Every code block that a reader sees is run. `tests/docs/pages.py` and `runner.py` say how a page is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read_page, repository_files
from tests.docs.runner import PageRun


@pytest.mark.parametrize("name", repository_files("*.md"))
def test_what_the_page_shows_is_what_happens(name: str, tmp_path: Path) -> None:
    page = read_page((ROOT / name).read_text())
    run = PageRun(name, tmp_path)
    try:
        run.run(page)
    finally:
        run.close()
