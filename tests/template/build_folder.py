"""The folder that `faas-cli build --shrinkwrap` makes of a template and a handler, as its source (builder/build.go and
builder/copy.go) says: links are followed, the handler lies over the sample in `function/`, and what the handler does
not have stays as the template has it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template" / "faas-flow"

_SKIPPED = {"build", "template"}


def make_build_folder(handler: Path, folder: Path, *, template: Path = TEMPLATE) -> Path:
    """Make `folder`, from which an image of the handler's flow is built."""
    function = folder / "function"
    function.mkdir(mode=0o700, parents=True)
    _copy(template, folder)
    for entry in handler.iterdir():
        if entry.name not in _SKIPPED:
            _copy(entry, function / entry.name)
    return folder


def new_function(folder: Path, *, template: Path = TEMPLATE) -> Path:
    """Make `folder` as `faas-cli new` does: the sample handler of the template, readable by its owner only."""
    folder.mkdir(mode=0o700)
    _copy(template / "function", folder)
    return folder


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        shutil.copy(source, target)
        return
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        _copy(entry, target / entry.name)
