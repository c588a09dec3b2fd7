"""A request of a flow on a gateway of its own: started, followed to its end, and shown on a terminal meanwhile."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import requests

from faasflow.cli.echo import Echo
from faasflow.cli.inspection import Inspection, Inspector
from faasflow.cli.progress import Progress
from faasflow.cli.remote import REQUEST_ID, STATE, RemoteError, checked, result_path, story_of, story_path
from faasflow.cli.session import Session, session
from faasflow.cli.story import Story, is_closed, running
from faasflow.cli.target import Target
from faasflow.cli.tracebacks import own_frames
from faasflow.engine.lifecycle import RequestState
from faasflow.errors import FaasflowError
from faasflow.naming import IdMaker, listed, readable_path

_TICK = 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25
_LOOKS = 3.0
_LOG_LINES = 10


class RunError(FaasflowError):
    """A request that cannot be started, or does not come to its end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was recorded of the request, its result or what `on_failure` returned, and what to show of a failure."""

    story: Story
    body: bytes | None
    log: Sequence[str] = ()

    @property
    def is_success(self) -> bool:
        return bool(self.story["state"] == RequestState.FINISHED)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a request is run: with this `query` and `request_id` (one is made if it is empty), for at most `timeout`
    seconds, in a state folder of its own if none is given. `again` is the command that runs it again, to be told who
    interrupts it. What functions log is shown from `level` on; with `is_quiet` nothing is."""

    query: str
    request_id: str
    timeout: float
    state_dir: Path | None
    again: Sequence[str]
    level: str
    is_quiet: bool


def execute(target: Target, body: bytes, wishes: Wishes) -> Outcome:
    """Run one request to its end; nothing that was started for it is left. `RunError` if it cannot start or does not
    end in time."""
    until = time.monotonic() + wishes.timeout
    with (
        Progress(sys.stderr, is_quiet=wishes.is_quiet) as progress,
        Inspector(target.spec, query=wishes.query) as inspector,
        session(target.stack, wishes.state_dir, on_notice=progress.say, on_line=_echo(progress, wishes)) as own,
    ):
        # The process of the flow starts while the plan is made.
        own.calls.submit(own.remote.call, target.name, "/_/ready", method="GET")
        progress.wait(f"starting {target.name}")
        plan = inspector.wait()
        _refuse_missing(plan, target)
        return _Run(own, target, plan, until, progress).execute(body, wishes)


def _echo(progress: Progress, wishes: Wishes) -> Callable[[str, str], None]:
    return Echo(progress.say, level=wishes.level, stream=sys.stderr).take


class _Run:
    """One request, from its start on. `until` is in the time of `time.monotonic`."""

    def __init__(self, own: Session, target: Target, plan: Inspection, until: float, progress: Progress) -> None:
        self._own = own
        self._target = target
        self._plan = plan
        self._until = until
        self._progress = progress

    def execute(self, body: bytes, wishes: Wishes) -> Outcome:
        """Start it and follow it to its end."""
        id = wishes.request_id or IdMaker()()
        self._progress.begin(f"{self._target.name}, request {id}", self._plan.waits_for)
        try:
            story = self._run(id, body, wishes.query)
        except KeyboardInterrupt:
            self._progress.say(_how_to_go_on(id, wishes))
            raise
        self._progress.finish(story)
        return Outcome(story, self._body(story), self._log(story, with_functions=wishes.is_quiet))

    def _run(self, request_id: str, body: bytes, query: str) -> Story:
        remote, headers = self._own.remote, {REQUEST_ID: request_id}
        call = self._own.calls.submit(remote.call, self._target.name, query=query, headers=headers, body=body)
        self._wait_for_start(call)
        return self._follow(request_id)

    def _wait_for_start(self, call: Future[requests.Response]) -> None:
        """Wait until the request is started; a synchronous flow has ended by then."""
        while True:
            try:
                answer = call.result(timeout=_TICK)
            except TimeoutError:
                self._check_time("")
                self._progress.wait(f"waiting for {self._target.name}")
                continue
            if STATE not in answer.headers:
                checked(answer)
                raise RunError(f"{self._target.name!r} did not answer as a flow does.")
            return

    def _follow(self, request_id: str) -> Story:
        pause = _FIRST_PAUSE
        story: Story | None = None
        plan = self._plan
        while True:
            began = time.monotonic()
            story = self._story(request_id) or story
            if story and is_closed(story):
                return story
            if story:
                self._progress.update(story)
            self._check_time(
                f" Running: {listed([readable_path(path) for path in running(story, plan.waits_for)])}."
                if story
                else ""
            )
            # To look at a request with many nodes takes time that its nodes could use.
            time.sleep(max(pause, _LOOKS * (time.monotonic() - began)))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _story(self, request_id: str) -> Story | None:
        """What is recorded now; nothing while the flow's process starts anew."""
        try:
            return story_of(self._own.remote.read(self._target.name, story_path(request_id)))
        except RemoteError as error:
            if error.code < 500:
                raise
            return None

    def _check_time(self, details: str) -> None:
        if time.monotonic() > self._until:
            notice = self._own.logs.notice
            raise RunError(
                f"Flow {self._target.name!r} did not end in time.{details}",
                hint=notice or "Give it more with --timeout, or see what its functions write with `faasflow up`.",
            )

    def _body(self, story: Story) -> bytes | None:
        if story["state"] != RequestState.FINISHED and not _has_answer(story):
            return None
        return self._own.remote.call(self._target.name, result_path(story["request_id"]), method="GET").content

    def _log(self, story: Story, *, with_functions: bool) -> Sequence[str]:
        failure = story["failure"]
        if not failure:
            return []
        function = failure.get("operation", "")
        if function in self._target.stack.functions:
            return [f"{function} wrote:", *self._own.logs.tail(function, _LOG_LINES)] if with_functions else []
        return own_frames(str(failure.get("traceback", "")))


def _how_to_go_on(request_id: str, wishes: Wishes) -> str:
    if wishes.state_dir is None:
        return "Interrupted. Its state was temporary; --state-dir DIR would have kept it."
    options = ["--state-dir", str(wishes.state_dir), "--id", request_id]
    return f"Interrupted. Go on with it: {shlex.join([*wishes.again, *options])}"


def _refuse_missing(plan: Inspection, target: Target) -> None:
    """Before anything runs: every function that the flow can call must be there, or be known to run elsewhere."""
    for name, node in plan.calls.items():
        spec = target.stack.functions.get(name.partition(".")[0])
        if spec is not None and not spec.url and (spec.unhosted or spec.mistake):
            raise RunError(
                f"Node {node!r} calls function {name!r}, which is not hosted here: {spec.unhosted or spec.mistake}",
                hint=f"Give its 'url' in stack.local.yml: functions: {{{spec.name}: {{url: ...}}}}",
            )
    for name, node in plan.missing(target.stack).items():
        call = f"Node {node!r} calls function {name!r}"
        if target.stack.path:
            raise RunError(
                f"{call}, which is not in {target.stack.path}.",
                hint="Add it there, or name another stack file with -f.",
            )
        raise RunError(
            f"{call}, and there is no stack file that has it.",
            hint="Put a stack.yml with it beside the flow or above, or name one with -f.",
        )


def _has_answer(story: Story) -> bool:
    return any(node["path"].startswith("$on_failure") and node.get("result_size") for node in story["nodes"])
