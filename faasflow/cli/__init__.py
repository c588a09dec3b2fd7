"""The command line. Commands import what they need when they run, so that `faasflow --help` answers at once."""

from __future__ import annotations

import click

import faasflow
from faasflow.cli.app import App
from faasflow.cli.completion import completion
from faasflow.cli.control import pause, resume, stop
from faasflow.cli.dead_letters import dead_letters
from faasflow.cli.doctor import doctor
from faasflow.cli.graph import graph
from faasflow.cli.invoke import invoke
from faasflow.cli.listing import list_, state
from faasflow.cli.logs import logs
from faasflow.cli.new import new
from faasflow.cli.rerun import rerun
from faasflow.cli.result import result
from faasflow.cli.retry import retry
from faasflow.cli.run import run
from faasflow.cli.tick import tick
from faasflow.cli.track import track
from faasflow.cli.unreadable import unreadable
from faasflow.cli.up import up
from faasflow.cli.validate import validate
from faasflow.cli.worker import worker

__all__ = ["main"]


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(faasflow.__version__, prog_name="faasflow")
def main() -> None:
    """Write, run and look at flows of OpenFaaS functions.

    Results go to stdout, everything else to stderr. Ends with 0, with 1 when something failed, 2 when it was misused,
    130 after Ctrl-C.

    \b
    Example:
      faasflow new greet
      faasflow run greet --data Ada
    """


_COMMANDS = (
    new,
    up,
    run,
    invoke,
    list_,
    state,
    track,
    logs,
    result,
    pause,
    resume,
    stop,
    dead_letters,
    retry,
    rerun,
    validate,
    graph,
    doctor,
    tick,
    unreadable,
    worker,
    completion,
)
for _command in _COMMANDS:
    main.add_command(_command)
