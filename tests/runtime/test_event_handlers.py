"""The event handler that a handler brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faasflow import Event, EventHandler
from faasflow.config import Settings
from faasflow.errors import HandlerError
from faasflow.runtime import Handler, event_handlers, load_handler


class Own(EventHandler):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def init(self) -> None:
        self.log.append("init")

    def report_request_end(self, event: Event) -> None:
        self.log.append(event.state)


SETTINGS = Settings(state_store="memory:", data_store="memory:")


def handler(make: Any) -> Handler:
    return Handler(define=lambda flow, context: None, override_event_handler=make)


def test_a_handlers_own_event_handler_is_made_ready_once() -> None:
    log: list[str] = []

    assert len(event_handlers(handler(lambda: Own(log)), SETTINGS)) == 1
    assert log == ["init"]


def test_without_one_nobody_is_told() -> None:
    assert event_handlers(handler(None), SETTINGS) == event_handlers(handler(lambda: None), SETTINGS) == []


@pytest.mark.parametrize("name", ["override_event_handler", "OverrideEventHandler"])
def test_it_is_found_in_the_handler_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "handler.py"
    file.write_text(
        f"from faasflow import EventHandler\ndef define(flow, context): ...\ndef {name}():\n    return EventHandler()\n"
    )

    assert [type(one) for one in event_handlers(load_handler(tmp_path), SETTINGS)] == [EventHandler]


def _failing() -> EventHandler:
    raise ValueError("no address")


class _Unready(EventHandler):
    def init(self) -> None:
        raise OSError("nobody there")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_failing, "override_event_handler.. failed with ValueError: no address"),
        (_Unready, "init.. of the event handler failed with OSError: nobody there"),
        (lambda: object(), "returned object, which is no faasflow.EventHandler"),
    ],
)
def test_one_that_cannot_be_used_is_told_before_the_first_request(make: Any, text: str) -> None:
    with pytest.raises(HandlerError, match=text):
        event_handlers(handler(make), SETTINGS)
