"""`-e` and `--env-file`: environment variables for functions that run here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

_NAME = re.compile(r"[^\s=\0]+")
_QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)


def environment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-e` and `--env-file`, as often as needed; `-e` beats files, and what comes later what came before. The command
    is given what they name as `environment`."""

    @wraps(command)
    def with_environment(
        *arguments: Any, variables: Sequence[tuple[str, str]], env_files: Sequence[Path], **options: Any
    ) -> Any:
        found = [pair for file in env_files for pair in variables_of(file)]
        return command(*arguments, environment=dict([*found, *variables]), **options)

    for option in (
        click.option(
            "--env-file",
            "env_files",
            multiple=True,
            type=click.Path(path_type=Path, dir_okay=False),
            help="File of such lines for the functions; may be given often.",
        ),
        click.option(
            "-e",
            "--env",
            "variables",
            multiple=True,
            type=variable,
            metavar="NAME[=VALUE]",
            help="Environment variable for the functions, without =VALUE the one that is set here; may be given often.",
        ),
    ):
        with_environment = option(with_environment)
    return with_environment


def variable(text: str, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """`NAME=VALUE` as its two parts; of a `NAME` alone the value is that of `environ`."""
    name, is_given, value = text.partition("=")
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.")
    if "\0" in value:
        raise click.BadParameter(f"The value of {name!r} has a NUL character.")
    if not is_given and name not in environ:
        raise click.BadParameter(f"{name!r} is not set here. Set it, or write {name}=VALUE.")
    return name, value if is_given else environ[name]


def variables_of(file: Path) -> Iterator[tuple[str, str]]:
    """The variables of a file: a line `NAME=VALUE` or `NAME` each, as of `-e`, with `export` before it and quotes round
    the value if need be. Empty lines and those that begin with `#` are left out."""
    for number, line in enumerate(_lines(file), start=1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        try:
            name, value = variable(text)
        except click.BadParameter as error:
            raise click.BadParameter(f"{file}, line {number}: {error.message}", param_hint="'--env-file'") from None
        quoted = _QUOTED.fullmatch(value)
        yield name, quoted[2] if quoted else value


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}."
    except UnicodeDecodeError:
        reason = "is no UTF-8 text."
    raise click.BadParameter(f"{str(file)!r} {reason}", param_hint="'--env-file'")
