"""`faasflow up`: the functions of a stack file behind a gateway on this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faasflow.cli.console import is_terminal, show
from faasflow.cli.look import Look
from faasflow.cli.options import stack_option

if TYPE_CHECKING:
    from faasflow.local.elsewhere import RemoteGateway


def _host_names(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    from faasflow.local.browsers import is_host_name

    for name in names:
        if not is_host_name(name):
            raise click.BadParameter(f"{name!r} is not a host name. Leave out the scheme, port and path.")
    return names


@click.command(short_help="Serve the functions of a stack on this machine.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@stack_option
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Port of 127.0.0.1 (default: 8080; 0: any).")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the queue, the secrets and the flows' stores (default: .faasflow beside the stack file).",
)
@click.option("--reload", is_flag=True, help="Serve anew what changes: handlers and the stack file.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=8, help="Asynchronous calls delivered at a time (default: 8)."
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    callback=_host_names,
    help="Another host name of the gateway, or of pages that may call it; may be given again.",
)
@click.option(
    "--install", is_flag=True, help="First install what the requirements.txt of each function names, for it alone."
)
@click.option(
    "--remote",
    metavar="URL",
    help="Gateway that is called for functions which are not hosted here; with its login, as of faas-cli login.",
)
def up(
    names: tuple[str, ...],
    stack: Path | None,
    port: int,
    state_dir: Path | None,
    reload: bool,
    workers: int,
    allow_hosts: tuple[str, ...],
    install: bool,
    remote: str | None,
) -> None:
    """Serve the functions of a stack file behind an OpenFaaS gateway on this machine, until Ctrl-C; with NAMEs only
    these.

    Handlers in Python are hosted here. Where others run can be named in stack.local.yml, or with --remote.

    What was taken into the queue and is not done is done after the next start. A second Ctrl-C ends at once.

    \b
    Examples:
      faasflow up
      faasflow up greet shout
      faasflow up -f team/stack.yml --port 9000 --reload
      faasflow up --remote https://gateway.example.com
    """
    from faasflow.cli.target import stack_file
    from faasflow.local import up as serve

    file = stack or stack_file(Path()) or Path()
    elsewhere = None if remote is None else _with_login(remote)
    serve(
        file,
        only=names,
        port=port,
        state_dir=state_dir,
        reload=reload,
        workers=workers,
        allow_hosts=allow_hosts,
        remote=elsewhere,
        install=install,
        say=_say,
    )


def _with_login(url: str) -> RemoteGateway:
    """A gateway, with the login in its URL, else the one that `faas-cli login` keeps for it."""
    from faasflow.cli.remote import stored_login
    from faasflow.local.elsewhere import remote_gateway

    gateway = remote_gateway(url)
    return gateway if gateway.headers else replace(gateway, headers=[*stored_login(gateway.url).items()])


def _say(line: str) -> None:
    """A line of the gateway or, behind its name in brackets, of a function; on a terminal in short."""
    from faasflow.cli.up_lines import short_lines

    try:
        for text in short_lines(line, Look.of(sys.stdout), datetime.now()) if is_terminal(sys.stdout) else [line]:
            show(text)
    except BrokenPipeError:
        # Who read the log went away; who calls the functions did not.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
