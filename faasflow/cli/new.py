"""`faasflow new`: a first handler with its test, and its entry in the stack file."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import click

from faasflow.cli.console import show
from faasflow.errors import FaasflowError

LANG = "faas-flow"
SETTINGS_FILE = "flow.yml"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 63
_SUFFIX = ".txt"


class ExistsError(FaasflowError, FileExistsError):
    """What is to be made is there already."""


def _checked(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise click.BadParameter(f"{name!r} cannot name a function. Use a-z, 0-9 and inner '-', at most 63 characters.")
    return name


@click.command(short_help="Make a flow, its test, and its entry in the stack.")
@click.argument("name", callback=_checked)
@click.option("--lang", type=click.Choice([LANG]), default=LANG, help=f"Template of the function (default: {LANG}).")
@click.option(
    "-f",
    "--append",
    "stack",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Stack file that gets the entry, made where there is none; the folder lies beside it (default: the stack.yml "
    "or stack.yaml that is here, else a new stack.yml).",
)
def new(name: str, lang: str, stack: Path | None) -> None:
    """Make a flow: a folder with a handler and its test, and an entry in stack.yml.

    What the stack file holds stays as it is, comments included.

    \b
    Example:
      faasflow new greet
    """
    from faasflow.local.stack import STACK_NAMES, find_stack

    is_usual = stack is None
    stack = stack or find_stack(Path()) or Path(STACK_NAMES[0])
    folder = stack.parent / name
    if folder.exists():
        raise ExistsError(f"{str(folder)!r} exists already.", hint="Choose another name, or remove it.")
    text = _with_entry(stack, name, lang)
    created = make_folder(folder)
    stack.write_bytes(text.encode())
    for file in (*created, stack):
        show(f"wrote {file}")
    show()
    show(_next_steps(name, folder, option="" if is_usual or stack == Path("stack.yml") else f" -f {stack}"))


def make_folder(folder: Path) -> list[Path]:
    """Write the files of a new flow to `folder`, which must not exist; gives their names."""
    folder.mkdir(parents=True)
    return [_copy(source, folder) for source in scaffold()]


def scaffold() -> list[Any]:
    """The files that a new flow starts with, each under its name and `.txt`."""
    files = [file for file in resources.files("faasflow.cli").joinpath("scaffold").iterdir() if file.is_file()]
    return sorted(files, key=lambda file: file.name)


def _copy(source: Any, folder: Path) -> Path:
    target = folder / str(source.name).removesuffix(_SUFFIX)
    target.write_bytes(source.read_bytes())
    return target


def _with_entry(stack: Path, name: str, lang: str) -> str:
    from faasflow.cli.stack_text import NEW_STACK, StackTextError, add_function

    text = stack.read_bytes().decode() if stack.exists() else NEW_STACK
    has_settings = (stack.parent / SETTINGS_FILE).is_file()
    entry = _ENTRY.format(name=name, lang=lang) + (_SETTINGS if has_settings else "")
    try:
        return add_function(text, name, entry)
    except StackTextError as error:
        raise StackTextError(f"{stack}: {error.message}", hint=error.hint) from error


def _next_steps(name: str, folder: Path, *, option: str) -> str:
    steps = [
        (f"edit {folder / 'handler.py'}", "what the flow does"),
        # Only so do tests in folders like `see-off`, which are no names of Python, find what lies beside them.
        (f"pytest --import-mode=importlib {folder}", "its test"),
        (f"faasflow run {name}{option} --data hello", "run it once, here"),
        (f"faasflow up{option}", "serve the functions of the stack, here"),
        (f"faas-cli up{option}", "build and deploy them, in a cluster"),
    ]
    width = max(len(step) for step, _ in steps)
    return "\n".join(["Next:", *(f"  {step:{width}}  # {what}" for step, what in steps)])


_ENTRY = """\
lang: {lang}
handler: ./{name}
image: {name}:latest
labels:
  faas-flow: "1"
secrets:
  - faasflow-hmac-secret
"""
_SETTINGS = f"""\
environment_file:
  - {SETTINGS_FILE}
"""
