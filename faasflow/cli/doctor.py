"""`faasflow doctor`: the settings in force, and whether what they name is there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import mark, note, show, show_table
from faasflow.cli.options import gateway_option, stack_option

if TYPE_CHECKING:
    from faasflow.cli.target import Target
    from faasflow.config import Inspection, Settings
    from faasflow.local.state import StateDir
    from faasflow.runtime.checks import Check

_CALL_LIMIT = 60.0  # of the gateway on the laptop


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at. `origins` says where settings came from that are in no environment yet; `state` is the folder
    of `faasflow up` where the flow runs there, `gateway` that of a flow which is deployed."""

    title: str
    found: Inspection
    origins: Mapping[str, str]
    state: StateDir | None = None
    gateway: Settings | None = None


@click.command(short_help="Say what settings are in force, and what is wrong with them.")
@click.argument("target", required=False)
@stack_option
@gateway_option
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that `faasflow up` was given (default: .faasflow beside the stack file).",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def doctor(
    context: click.Context, target: str | None, stack: Path | None, gateway: str, state_dir: Path | None, as_json: bool
) -> None:
    """Show the settings of a flow and where each came from, with secrets masked, and try what they name: the gateway,
    the stores, the signing secret, the timeouts.

    TARGET is a flow as `faasflow up` runs it: one of the stack file, a handler.py, or its folder. Where the gateway is
    on another machine, or `faasflow up` never ran here, TARGET is the flow behind the gateway, and the settings are
    those of its stack file. Without TARGET, inside a function's container the settings are those of the function; else
    they are those of the first flow of the stack file. Ends with 1 if something is wrong.

    \b
    Examples:
      faasflow doctor greet
      faasflow doctor greet --gateway https://gateway.example.com
      kubectl exec deploy/greet -n openfaas-fn -- python -m faasflow.cli doctor
    """
    subject = _subject(target, stack, gateway, state_dir)
    checks = _Json(subject) if as_json else _Lines(subject)
    verdicts = [checks.take(check) for check in _checks(subject)]
    checks.end()
    if not all(verdicts):
        context.exit(FAILED)


class _Lines:
    """Writes for people: the settings first, then each check when it is done."""

    def __init__(self, subject: Subject) -> None:
        note(subject.title)
        show_table(("SETTING", "VALUE", "FROM"), [row[:3] for row in _rows(subject)])
        show()

    def take(self, check: Check) -> bool:
        sign = mark(check.verdict.value, stream=sys.stdout)
        show(f"{sign} {check.name}: {check.found} {check.way_out}".rstrip().replace("\n", " "))
        return check.verdict != "bad"

    def end(self) -> None:
        pass


class _Json:
    """Writes for programs, at the end."""

    def __init__(self, subject: Subject) -> None:
        names = ("name", "value", "from")
        settings = [dict(zip(names, row, strict=True)) for row in _rows(subject)]
        self._said: dict[str, object] = {"flow": subject.found.settings.flow, "settings": settings}
        self._checks: list[dict[str, str]] = []

    def take(self, check: Check) -> bool:
        said = {"name": check.name, "verdict": check.verdict.value, "found": check.found, "way_out": check.way_out}
        self._checks.append(said)
        return check.verdict != "bad"

    def end(self) -> None:
        show(json.dumps({**self._said, "checks": self._checks}, indent=2))


def _rows(subject: Subject) -> list[tuple[str, str, str]]:
    rows = []
    for reading in filter(lambda reading: reading.shown, subject.found.readings):
        source = subject.origins.get(reading.name, reading.source.value)
        rows.append((reading.name, reading.shown, f"{source} ({reading.note})" if reading.note else source))
    return rows


def _subject(target: str | None, stack: Path | None, gateway: str, state_dir: Path | None) -> Subject:
    from faasflow.cli.target import find_target, flows, read_stack, stack_file
    from faasflow.config import inspect, names_flow

    if target is None and stack is None and (names_flow(os.environ) or stack_file(Path()) is None):
        return Subject("The settings of this environment:", inspect(os.environ), {})
    if target is None:
        found = [spec for spec in flows(read_stack(stack)) if not spec.mistake]
        if not found:
            raise click.UsageError("The stack file has no flow. Name a handler.py, or its folder.")
        target = found[0].name
    return _on_laptop(find_target(target, stack), gateway, state_dir)


def _on_laptop(target: Target, gateway: str, state_dir: Path | None) -> Subject:
    from faasflow.cli.deployed import is_deployed
    from faasflow.config import inspect
    from faasflow.local.gateway import function_environment
    from faasflow.local.stack import STATE_DIR
    from faasflow.local.state import StateDir

    folder = target.stack.path.parent if target.stack.path else Path()
    state = StateDir(state_dir or folder / STATE_DIR)
    environment = function_environment(target.spec, gateway=gateway, state=state, timeout=_CALL_LIMIT)
    origins = {name: "stack file" if name in target.spec.environment else "faasflow up" for name in environment}
    asked = inspect({**environment, "gateway": gateway}).settings
    if is_deployed(asked, state):
        return _deployed(target, asked)
    return Subject(f"The settings of {target.name} under `faasflow up`:", inspect(environment), origins, state)


def _deployed(target: Target, gateway: Settings) -> Subject:
    from faasflow.config import inspect, masked

    found = inspect({"OPENFAAS_NAME": target.name, **target.spec.environment})
    title = f"The settings of {target.name} as its stack file has them, behind {masked(gateway.gateway)}:"
    return Subject(title, found, dict.fromkeys(target.spec.environment, "stack file"), gateway=gateway)


def _checks(subject: Subject) -> Iterator[Check]:
    from faasflow.cli.deployed import check_deployed
    from faasflow.runtime.checks import Check, Verdict, check_gateway, run_checks

    if subject.gateway is not None:
        # Its secrets are not here, and with a setting that is wrong it does not become ready.
        yield from check_deployed(subject.found.settings.flow, subject.gateway)
        return
    if subject.state is None or subject.state.secrets.is_dir():
        yield from run_checks(subject.found)
        return
    found = f"`faasflow up` has not run here: there is no {str(subject.state.path)!r}."
    yield Check("state folder", Verdict.BAD, found, "Start it, or name its folder with --state-dir.")
    yield from check_gateway(subject.found.settings)
