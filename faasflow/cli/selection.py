"""Which requests of a flow are meant: options that choose among them, and the list of those that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from faasflow.cli.options import moment

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """Requests in one of `states` (in any, if none is named) that were started at `since` or later, and earlier than
    `before`. Times are in seconds since the epoch."""

    states: tuple[str, ...] = ()
    since: float | None = None
    before: float | None = None

    @property
    def is_all(self) -> bool:
        """Whether it leaves nothing out."""
        return not self.states and self.since is None and self.before is None

    def query(self, *, limit: int, after: str) -> str:
        """How a flow is asked for a page of them."""
        given = {"state": ",".join(self.states), "since": self.since, "before": self.before, "after": after}
        return urlencode({"limit": limit, **{name: value for name, value in given.items() if value not in (None, "")}})


def selection_options(where: str, states: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--state`, which is one of `states`, `--since` and `--before`; `where` says when they apply. The command is given
    what they name as `selection`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_selection(
            *arguments: Any, state: tuple[str, ...], since: float | None, before: float | None, **options: Any
        ) -> Any:
            chosen = Selection(tuple(dict.fromkeys(state)), since, before)
            return command(*arguments, selection=chosen, **options)

        for option in (
            click.option("--before", type=moment, metavar="TIME", help=f"{where}: those started earlier than that."),
            click.option(
                "--since", type=moment, metavar="TIME", help=f"{where}: those started since; 2h, 7d ago, or RFC 3339."
            ),
            click.option(
                "--state",
                multiple=True,
                type=click.Choice(states, case_sensitive=False),
                help=f"{where}: those in this state; may be given often.",
            ),
        ):
            with_selection = option(with_selection)
        return with_selection

    return add


def requests_of(
    remote: Remote, flow: str, selection: Selection, *, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of the requests of a flow that are meant, the newest first, at most `limit`; asked for page by page."""
    from faasflow.cli.remote import story_of

    after, left = "", limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = story_of(remote.read(flow, "/flow", query=selection.query(limit=size, after=after)), of="requests")
        yield from page["requests"]
        after, left = page.get("next") or "", None if left is None else left - len(page["requests"])
        if not after:
            return
