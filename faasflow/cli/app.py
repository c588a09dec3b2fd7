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
            _check_arguments(arguments)
            code = super().main(arguments or ["--help"], "faasflow", complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            code = _misused(error)
        except click.ClickException as error:
            report_error(error.format_message())
            code = FAILED
        except FaasflowError as error:
            report_error(error.message, hint=error.hint)
            code = FAILED
        except OSError as error:
            code = _refused(error)
        except UnicodeEncodeError as error:
            report_error(f"{error.object[error.start : error.end]!a} is no Unicode text, and must be UTF-8 here.")
            code = MISUSED
        except UnicodeDecodeError as error:
            report_error(f"A file that is read here is no UTF-8 text: it has the byte {error.object[error.start]:#x}.")
            code = FAILED
        except RecursionError:
            report_error("What is read here is nested too deeply.")
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


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse what no file, header or URL may hold."""
    for argument in arguments:
        if "\0" in argument:
            raise click.UsageError(f"Argument {argument!r} has a NUL character.")


def _refused(error: OSError) -> int:
    """What the system does not allow: a file that may not be read, a full disk, a name that is too long."""
    what = " and ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or str(error) or type(error).__name__
    report_error(f"{what}: {reason}." if what else f"{reason}.")
    return FAILED


def _misused(error: click.UsageError) -> int:
    command = error.ctx.command_path if error.ctx else "faasflow"
    report_error(error.format_message(), hint=f"{command} --help")
    return MISUSED
