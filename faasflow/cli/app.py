"""The frame around all commands: how an error, a misuse, Ctrl-C or a closed pipe ends the program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from faasflow.cli.console import report_error
from faasflow.errors import FaasflowError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class App(click.Group):
    """A group of commands that ends with 0, with 1 when something failed, 2 when it was misused, 130 after Ctrl-C."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        arguments = sys.argv[1:] if args is None else [*args]
        _open_streams()
        try:
            code = super().main(arguments or ["--help"], "faasflow", complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            code = _misused(error)
        except click.ClickException as error:
            report_error(error.format_message())
            code = FAILED
        except FaasflowError as error:
            report_error(error.message, hint=error.hint)
            code = FAILED
        except (KeyboardInterrupt, click.Abort):
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are added, which is the one in which they are needed."""
        return [*self.commands]


def _open_streams() -> None:
    """Let a program that was started without standard streams (`>&-`) write nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _misused(error: click.UsageError) -> int:
    command = error.ctx.command_path if error.ctx else "faasflow"
    report_error(error.format_message(), hint=f"{command} --help")
    return MISUSED
