"""How commands are told which request is meant: `[FLOW] REQUEST`, or the URL of one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import click

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_ROUTES = ("function", "async-function")
_COMMANDS = ("id", "state", "pause-flow", "resume-flow", "stop-flow")


@dataclass(frozen=True, slots=True)
class Named:
    """A request by its `id`, with its `flow` and `gateway` where these are said."""

    id: str
    flow: str | None = None
    gateway: str | None = None

    @classmethod
    def of(cls, word: str) -> Named:
        """An id, or the URL of a request as `GATEWAY/function/FLOW/flow/REQUEST`; a misuse for any other URL."""
        return _of_url(word) if word.startswith(("http://", "https://")) else cls(word)


def request_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """`[FLOW] REQUEST` and `--flow`, which stand within `remote_options`. The command is given the id as `request`, the
    `flow` where it is named, and the `remote` that a URL names."""
    return _with_request(command, is_optional=False)


def optional_request_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """`request_argument`, where a request need not be named: then `request` is `None`."""
    return _with_request(command, is_optional=True)


def several_requests(remote: Remote, words: Sequence[str], flow: str | None) -> list[Named]:
    """Those of `[FLOW] REQUEST...`. The first of several words is the flow if the gateway has one of its name."""
    words = list(dict.fromkeys(words))
    if flow is None and len(words) > 1 and "://" not in words[0] and words[0] in remote.flows():
        flow, words = words[0], words[1:]
    return [_within(Named.of(word), flow) for word in words]


def quoted(flow: str, request: str) -> str:
    """How a request is named on the command line."""
    return shlex.join([flow, *(["--"] if request.startswith("-") else []), request])


def _with_request(command: Callable[..., Any], *, is_optional: bool) -> Callable[..., Any]:
    @wraps(command)
    def with_request(*arguments: Any, remote: Remote, words: Sequence[str], flow: str | None, **options: Any) -> Any:
        if is_optional and not words:
            return command(*arguments, remote=remote, flow=flow, request=None, **options)
        named = named_request(words, flow)
        remote = remote.at(named.gateway) if named.gateway else remote
        return command(*arguments, remote=remote, flow=named.flow, request=named.id, **options)

    for option in (
        click.option("--flow", metavar="NAME", help="The flow, as FLOW says it (default: the one that knows REQUEST)."),
        click.argument("words", metavar="[FLOW] REQUEST" if not is_optional else "[[FLOW] REQUEST]", nargs=-1),
    ):
        with_request = option(with_request)
    return with_request


def named_request(words: Sequence[str], flow: str | None = None) -> Named:
    """The request of `[FLOW] REQUEST`; a misuse for anything else."""
    if not words:
        raise click.UsageError("Missing argument 'REQUEST'.")
    if len(words) > 2:
        raise click.UsageError(f"Name one request, as [FLOW] REQUEST; {words[2]!r} is too much.")
    if len(words) == 2 and flow not in (None, words[0]):
        raise click.UsageError(f"The flow is named twice: {words[0]!r} and --flow {flow!r}.")
    return _within(Named.of(words[-1]), words[0] if len(words) == 2 else flow)


def _within(named: Named, flow: str | None) -> Named:
    if flow and named.flow not in (None, flow):
        raise click.UsageError(f"The URL is that of a request of {named.flow!r}, not of {flow!r}.")
    return replace(named, flow=flow) if flow else named


def _of_url(url: str) -> Named:
    from faasflow.config import masked

    parts = urlsplit(url)
    base, segments = _split(parts.path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    asked = next((query[name] for name in _COMMANDS if name in query), None)
    if segments is not None and len(segments) > 2 and segments[1] == "flow":
        asked = asked if segments[2] == "-" and asked is not None else unquote(segments[2])
    if segments is None or not asked:
        raise click.UsageError(
            f"{masked(url)!r} is no URL of a request. Write it like http://127.0.0.1:8080/function/FLOW/flow/REQUEST."
        )
    return Named(asked, unquote(segments[0]), f"{parts.scheme}://{parts.netloc}{base}")


def _split(path: str) -> tuple[str, list[str] | None]:
    """The path of the gateway, and what follows the route of its functions."""
    segments = path.split("/")
    for place, segment in enumerate(segments[:-1]):
        if segment in _ROUTES and segments[place + 1]:
            return "/".join(segments[:place]), segments[place + 1 :]
    return path, None
