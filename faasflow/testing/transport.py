"""Functions, URLs and a queue that live in the test itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from faasflow.errors import TransportError
from faasflow.ports import Forward, OutgoingCall, Response

Fake = Callable[[bytes], bytes] | Callable[[OutgoingCall], Response]

_FUNCTIONS = "http://gateway/function/"


class InProcessTransport:
    """A `Transport` whose functions are callables. `pending` is the queue, oldest first; `calls` is every call made."""

    def __init__(self) -> None:
        self.pending: deque[Forward] = deque()
        self.calls: list[OutgoingCall] = []
        self._answers: dict[str, Callable[[OutgoingCall], Response]] = {}

    def function(self, name: str, code: Callable[[bytes], bytes]) -> None:
        """Let function `name` answer 200 with `code(body)`; where it raises, 500 with the error's text."""
        self._answers[self.function_url(name)] = lambda call: _answered(code, call)

    def answer(self, target: str, code: Callable[[OutgoingCall], Response]) -> None:
        """Let a function, by name, or a URL answer with `code(call)`."""
        self._answers[target if "://" in target else self.function_url(target)] = code

    def function_url(self, name: str) -> str:
        """A made-up address that stands for the function."""
        return _FUNCTIONS + name

    def call(self, call: OutgoingCall) -> Response:
        """Call the function or URL; `TransportError` for one that the test did not define."""
        self.calls.append(call)
        answer = self._answers.get(call.url) or self._answers.get(urlsplit(call.url)._replace(query="").geturl())
        if answer is None:
            raise TransportError(
                f"{call.function or call.url!r} is not there.",
                hint="Give the test a stand-in with tester.function(name, code).",
            )
        return answer(call)

    def forward(self, messages: Sequence[Forward]) -> None:
        """Put messages at the end of `pending`."""
        self.pending.extend(messages)


def _answered(code: Callable[[bytes], bytes], call: OutgoingCall) -> Response:
    try:
        return Response(200, {}, code(call.body))
    except Exception as error:
        return Response(500, {}, f"{type(error).__name__}: {error}".encode())
